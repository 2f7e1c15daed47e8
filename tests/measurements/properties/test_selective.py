"""Selective prediction of records whose order of certainty is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from measurements.properties.selective import CoverageAtRisk


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is that of every record measurement."""
    monkeypatch.setattr(CoverageAtRisk, "draws", 40)


LABELS = torch.tensor([0, 0, 0, 0, 1])


def sure(*margins: float) -> Tensor:
    """Logits of two classes that are this sure of class 0."""
    return torch.tensor([[margin, 0.0] for margin in margins])


def coverage(toy: Any, logits: Tensor, labels: Tensor = LABELS, **options: Any) -> dict[str, Any]:
    found = toy(CoverageAtRisk, labels={"toy": labels}, now={"toy": logits}, **options).measure()
    return {name.removeprefix("toy_test_"): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("risk", "share"), [(0.0, 0.4), (0.2, 1.0), (0.19, 0.4), (0.25, 1.0), (1.0, 1.0)]
)
def test_the_largest_coverage_is_found_beyond_a_hill(toy: Any, risk: float, share: float) -> None:
    # errors among the k surest: 0, 0, 1, 1, 1; risks 0, 0, 1/3, 1/4, 1/5
    (found,) = coverage(toy, sure(5, 4, 2, 1, 3), risk=risk).values()
    assert found == pytest.approx(share)
    assert found.n == 5
    assert found.low <= found <= found.high


def test_only_the_order_counts(toy: Any) -> None:
    margins = torch.tensor([5.0, 4, 2, 1, 3])
    found = [
        coverage(toy, sure(*some.tolist()), risk=0.25) for some in (margins, margins.exp() / 9)
    ]
    assert found[0] == found[1] == {"coverage_at_risk_25": 1.0}


def test_without_a_coverage_it_is_0_and_a_risk_is_part_of_the_name(toy: Any) -> None:
    found = coverage(toy, sure(1, 2, 3), torch.tensor([1, 1, 1]), risk=0.005)
    assert found == {"coverage_at_risk_0_5": 0.0}


def test_a_risk_is_a_share(toy: Any) -> None:
    with pytest.raises(ValueError, match="in \\[0, 1\\], got 5"):
        coverage(toy, sure(1, 2, 3), risk=5)
