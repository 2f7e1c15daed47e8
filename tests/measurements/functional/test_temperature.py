"""Temperature scaling against scipy, and its cross-fitting."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from core.errors import NotApplicable
from measurements.functional.folds import second_half
from measurements.functional.temperature import cross_fitted, fit_temperature


def drawn(seed: int, *, sharpness: float, n: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model that is `sharpness` times too sure, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 4, generator=generator).double() * 2
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits * sharpness, labels


def nll(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    return torch.nn.functional.cross_entropy(logits / temperature, labels).item()


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_the_temperature_is_the_one_scipy_finds(sharpness: float) -> None:
    logits, labels = drawn(0, sharpness=sharpness)
    expected = minimize_scalar(
        lambda log_t: nll(logits, labels, math.exp(log_t)),
        bounds=(math.log(0.05), math.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert fit_temperature(logits, labels) == pytest.approx(math.exp(expected.x), rel=1e-5)


@given(st.integers(0, 2**31), st.floats(0.3, 4), st.floats(0.06, 15))
def test_no_other_temperature_is_better(seed: int, sharpness: float, other: float) -> None:
    logits, labels = drawn(seed, sharpness=sharpness, n=50)
    found = fit_temperature(logits, labels)
    assert 0.05 <= found <= 20
    assert nll(logits, labels, found) <= nll(logits, labels, other) + 1e-9


@pytest.mark.parametrize(
    ("gap", "expected"), [(3.0, 0.05), (-3.0, 20.0)], ids=["always right", "always wrong"]
)
def test_the_best_beyond_an_end_gives_the_end(gap: float, expected: float) -> None:
    logits = torch.tensor([[gap, 0.0]] * 3)
    assert fit_temperature(logits, torch.zeros(3, dtype=torch.int64)) == expected


def test_a_broken_row_says_nothing_about_the_temperature() -> None:
    logits, labels = drawn(0, sharpness=2.0)
    broken = torch.cat([logits, torch.full((5, 4), torch.nan)])
    more = torch.cat([labels, torch.zeros(5, dtype=torch.int64)])
    assert fit_temperature(broken, more) == pytest.approx(fit_temperature(logits, labels))


def test_each_half_is_scaled_by_the_temperature_of_the_other() -> None:
    ids, (logits, labels) = torch.arange(200), drawn(1, sharpness=3.0)
    second = second_half(ids)
    found = cross_fitted(logits, labels, ids)
    fitted = [fit_temperature(logits[part], labels[part]) for part in (second, ~second)]
    assert found.temperatures == tuple(fitted)
    assert found.temperature == pytest.approx(math.sqrt(fitted[0] * fitted[1]))
    first = int((~second).nonzero()[0])
    expected = (logits[first] / fitted[0]).log_softmax(dim=0)
    assert found.log_p_label[first].item() == pytest.approx(expected[labels[first]].item())
    assert found.confidence[first].item() == pytest.approx(expected.max().exp().item())


def test_scaling_mends_an_overconfident_model() -> None:
    logits, labels = drawn(2, sharpness=4.0, n=2000)
    found = cross_fitted(logits, labels, torch.arange(2000))
    assert found.temperature == pytest.approx(4.0, rel=0.15)
    assert -found.log_p_label.mean().item() < nll(logits, labels, 1.0)


def test_the_order_of_the_samples_does_not_matter() -> None:
    ids, (logits, labels) = torch.arange(200), drawn(3, sharpness=2.0)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    found = cross_fitted(logits[order], labels[order], ids[order])
    assert found.temperature == pytest.approx(cross_fitted(logits, labels, ids).temperature)


def test_half_precision_as_stored_is_enough() -> None:
    logits, labels = drawn(4, sharpness=2.0)
    stored = (logits - logits.amax(dim=1, keepdim=True)).half()
    assert fit_temperature(stored, labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-3
    )


def test_a_single_sample_has_no_other_half() -> None:
    with pytest.raises(NotApplicable, match="both halves"):
        cross_fitted(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), torch.zeros(1).long())


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(5, sharpness=2.0, n=30)
    whole = cross_fitted(logits, labels, torch.arange(30))
    monkeypatch.setattr("measurements.functional.rows.VALUES_AT_ONCE", 8)
    parts = cross_fitted(logits, labels, torch.arange(30))
    torch.testing.assert_close(parts.log_p_label, whole.log_p_label)
