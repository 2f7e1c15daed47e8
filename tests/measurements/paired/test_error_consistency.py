"""Consistency of the errors of two models."""

from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from core.errors import NotApplicable
from measurements.functional.intervals import wilson_interval
from measurements.paired.error_consistency import ErrorConsistency

LABELS = torch.zeros(20, dtype=torch.int64)
NOW = [0] * 14 + [1] * 6
BEFORE = [0] * 12 + [2] * 4 + [0] * 2 + [2] * 2


def measured(toy: Any, votes: Any, now: list[int], before: list[int]) -> dict[str, Any]:
    answers = {"now": {"toy": votes(now)}, "before": {"toy": votes(before)}}
    found = toy(ErrorConsistency, labels={"toy": LABELS}, **answers).measure()
    return {key.removeprefix("toy_test_error_"): value for key, value in found.items()}


def test_kappa_is_that_of_right_and_wrong_whatever_the_wrong_answers(toy: Any, votes: Any) -> None:
    results = measured(toy, votes, NOW, BEFORE)
    right, baseline = ([answer == 0 for answer in side] for side in (NOW, BEFORE))
    assert results["consistency"] == pytest.approx(cohen_kappa_score(right, baseline))
    # the same on 12 + 4, expected .7 * .7 + .3 * .3
    assert results["overlap"] == pytest.approx(0.8)
    assert results["overlap_expected"] == pytest.approx(0.58)
    assert (results["overlap"].low, results["overlap"].high) == wilson_interval(16, 20)


def test_the_interval_holds_the_value_where_every_resample_has_errors(toy: Any, votes: Any) -> None:
    value = measured(toy, votes, NOW, BEFORE)["consistency"]
    assert value.low < value < value.high
    assert value.high - value.low < 1.2


def test_a_resample_without_errors_leaves_the_interval_out(toy: Any, votes: Any) -> None:
    rare = [1] + [0] * 19
    value = measured(toy, votes, rare, rare)["consistency"]
    assert (value, value.low, value.high) == (1, None, None)


def test_two_models_without_errors_have_no_kappa(toy: Any, votes: Any) -> None:
    with pytest.raises(NotApplicable, match="all right or all wrong"):
        measured(toy, votes, [0] * 20, [0] * 20)
