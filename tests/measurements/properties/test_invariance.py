"""Invariance by views, and its change."""

from typing import Any

import pytest
import torch

from core.errors import ConfigError, NotApplicable
from measurements.functional.intervals import wilson_interval
from measurements.functional.invariance import invariance
from measurements.paired.invariance import InvarianceDelta
from measurements.properties.invariance import Invariance

LABELS = torch.arange(40) % 4
GENERATOR = torch.Generator().manual_seed(0)
CLEAN = 3 * torch.eye(4)[LABELS] + torch.randn(40, 4, generator=GENERATOR)
FLIPPED = CLEAN + torch.randn(40, 4, generator=GENERATOR)
TURNED = CLEAN.roll(1, dims=0)
ANSWERS = {"toy": CLEAN, "toy/flip": FLIPPED, "toy/rotate_5": CLEAN, "toy/rotate_90": TURNED}
MAGNITUDES = {"flip": [1], "rotate": [5, 90], "roll": []}


def made(toy: Any, kind: type = Invariance, **options: Any) -> Any:
    options = {"now": ANSWERS, "magnitudes": MAGNITUDES, **options}
    return toy(kind, labels={"toy": LABELS}, **options)


def test_each_view_and_each_kind_has_two_numbers(toy: Any) -> None:
    results = made(toy).measure()
    views, kinds = ("flip", "rotate_5", "rotate_90"), ("flip", "rotate")
    assert set(results) == {
        f"toy_test_{measured}"
        for quantity in ("invariance", "consistency")
        for measured in (
            *(f"{quantity}_{view}" for view in views),
            *(f"mean_{quantity}_{kind}" for kind in kinds),
        )
    }
    assert results["toy_test_invariance_rotate_5"].view == "rotate_5"
    assert results["toy_test_mean_invariance_rotate"].view == "clean"


def test_an_unchanged_answer_is_exactly_1_and_half_precision_moves_others_little(toy: Any) -> None:
    results = made(toy).measure()
    same = results["toy_test_invariance_rotate_5"]
    assert (same, same.low, same.high) == (1, 1, 1)
    exact = invariance(CLEAN, transformed=FLIPPED)
    assert results["toy_test_invariance_flip"] == pytest.approx(exact, abs=1e-3)


def test_the_mean_of_a_kind_is_over_its_views(toy: Any) -> None:
    results = made(toy).measure()
    for measured in ("invariance", "consistency"):
        one, other = (results[f"toy_test_{measured}_rotate_{degrees}"] for degrees in (5, 90))
        assert results[f"toy_test_mean_{measured}_rotate"] == pytest.approx((one + other) / 2)


def test_intervals_are_wilson_for_the_share_and_hold_the_score(toy: Any) -> None:
    results = made(toy).measure()
    hits = int((CLEAN.argmax(dim=1) == FLIPPED.argmax(dim=1)).sum())
    share, score = results["toy_test_consistency_flip"], results["toy_test_invariance_flip"]
    assert (share.low, share.high) == wilson_interval(hits, 40)
    assert score.low < score < score.high < 1


def test_a_model_that_always_says_the_same_has_no_score(toy: Any) -> None:
    with pytest.raises(NotApplicable, match="answers all samples alike"):
        made(toy, now=dict.fromkeys(ANSWERS, torch.ones(40, 4))).measure()


def test_a_score_whose_resamples_may_all_be_alike_has_no_interval(toy: Any) -> None:
    lone = torch.zeros(40, 4)
    lone[0, 0] = 4.0
    results = made(toy, now=dict.fromkeys(ANSWERS, lone)).measure()
    value = results["toy_test_invariance_flip"]
    assert (value, value.low, value.high) == (1, None, None)


def test_records_of_every_view_are_asked_for_with_their_logits(toy: Any) -> None:
    requests = made(toy).requests()
    assert [each.view for each in requests] == ["clean", "flip", "rotate_5", "rotate_90"]
    assert {part for each in requests for part in each.parts} == {"logits"}


@pytest.mark.parametrize(
    ("magnitudes", "message"),
    [
        ({"rotte": [5]}, "unknown transformation 'rotte', did you mean 'rotate'"),
        ({"rotate": [5, 400]}, "unknown view 'rotate_400'"),
        ({"flip": []}, "at least one magnitude"),
    ],
    ids=["kind", "magnitude", "nothing"],
)
def test_a_transformation_that_there_is_not_is_refused(
    toy: Any, magnitudes: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        made(toy, magnitudes=magnitudes)


def test_the_change_is_exactly_nothing_for_equal_models(toy: Any) -> None:
    results = made(toy, InvarianceDelta, before=ANSWERS).measure()
    assert len(results) == 10
    assert "toy_test_delta_mean_invariance_rotate" in results
    assert {(value, value.low, value.high) for value in results.values()} == {(0, 0, 0)}


def test_the_change_is_compressed_minus_baseline(toy: Any) -> None:
    steady = {**ANSWERS, "toy/flip": CLEAN}
    results = made(toy, InvarianceDelta, now=steady, before=ANSWERS).measure()
    before = made(toy).measure()
    for measured in ("invariance", "consistency"):
        change = results[f"toy_test_delta_{measured}_flip"]
        assert change == pytest.approx(1 - before[f"toy_test_{measured}_flip"])
        assert 0 <= change.low < change < change.high
        assert results[f"toy_test_delta_{measured}_rotate_90"] == 0
