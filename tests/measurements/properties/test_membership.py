"""Membership inference from losses that are written down."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.errors import NotApplicable
from datamodules.dummy import Dummy
from measurements.properties.membership import MembershipInference


def sure(*logits: float) -> Tensor:
    """Logits of two classes; the greater, the smaller the loss of class 0."""
    return torch.tensor([[logit, 0.0] for logit in logits])


class Splits:
    """Gives other records for the train split."""

    def __init__(self, toy: Any, train: Tensor, test: Tensor) -> None:
        self.given = {}
        for split, logits in {"train": train, "test": test}.items():
            labels = torch.zeros(len(logits), dtype=torch.int64)
            made = toy(MembershipInference, labels={"toy": labels}, now={"toy": logits})
            self.given[split] = made.records("toy")
        self.asked: list[tuple[str, int | None]] = []

    def records(self, model: Any, name: str, split: str, view: str, **asked: Any) -> Any:
        self.asked.append((split, asked["samples"]))
        return self.given[split]

    def datamodule(self, name: str, model: Any) -> Dummy:
        return Dummy()


def measured(toy: Any, train: Tensor, test: Tensor) -> tuple[dict[str, Any], Splits]:
    made = toy(MembershipInference, labels={"toy": torch.zeros(1)}, now={}, samples=7)
    made.recorder = Splits(toy, train, test)
    return {key.removeprefix("toy_test_"): value for key, value in made.measure().items()}, (
        made.recorder
    )


def test_pairs_and_bound_worked_by_hand(toy: Any) -> None:
    found, recorder = measured(toy, sure(5, 3, -4), sure(4, 3, 1, -9))
    # of twelve pairs 4 + 2.5 + 1 are in order; the mean loss is 1.36, that of 1 is 0.31
    assert found["membership_auroc"] == pytest.approx(7.5 / 12)
    assert found["membership_advantage"] == pytest.approx(2 / 3 - 3 / 4)
    assert found["membership_auroc"].low <= 7.5 / 12 <= found["membership_auroc"].high
    assert found["membership_auroc"].n == 7
    assert recorder.asked == [("train", 7), ("test", None)]


def test_the_same_losses_give_nothing_away_and_broken_rows_do_not_count(toy: Any) -> None:
    broken = torch.cat([sure(5, 3, -4), torch.tensor([[torch.nan, 0.0]])])
    found, _ = measured(toy, broken, sure(5, 3, -4))
    assert found == {"membership_auroc": 0.5, "membership_advantage": 0}


def test_without_a_train_split_it_is_not_applicable(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dummy, "splits", ("test",))
    made = toy(MembershipInference, labels={"toy": torch.zeros(1)}, now={})
    assert made.requests() == []
    with pytest.raises(NotApplicable, match="no train split"):
        made.measure()
