import math

import pytest
import torch

from core.errors import NotApplicable
from measurements.functional.intervals import wilson_interval
from measurements.functional.shape_bias import ShapeBias, coarse_decisions, shape_bias

SHAPE = torch.tensor([0, 1, 2, 3, 0, 1])
TEXTURE = torch.tensor([1, 2, 3, 0, 0, 0])  # the fifth has one class


def test_an_oracle_of_shapes_has_bias_1_and_one_of_textures_0() -> None:
    assert shape_bias(SHAPE, shape=SHAPE, texture=TEXTURE).bias == 1.0
    assert shape_bias(TEXTURE, shape=SHAPE, texture=TEXTURE).bias == 0.0


def test_decisions_worked_by_hand() -> None:
    decisions = torch.tensor([0, 1, 3, 9, 0, -1])  # shape, shape, texture, neither, dropped, broken
    found = shape_bias(decisions, shape=SHAPE, texture=TEXTURE)
    assert found == ShapeBias(shape=2, texture=1, neither=2, dropped=1)
    assert found.bias == 2 / 3
    assert found.interval == wilson_interval(2, 3)


def test_no_decision_for_either_has_no_bias() -> None:
    found = shape_bias(torch.full((6,), 9), shape=SHAPE, texture=TEXTURE)
    assert (found.neither, found.dropped) == (5, 1)
    with pytest.raises(NotApplicable, match="no decision is for"):
        _ = found.bias


def test_the_mean_probability_decides_not_the_sum_nor_the_best() -> None:
    logits = torch.tensor([[0.4, 0.1, 0.1, 0.3, 0.1]]).log()
    # means .2 and .3; sums .6 and .3; the best single class is in the first
    assert coarse_decisions(logits, [[0, 1, 2], [3]]).tolist() == [1]


def test_classes_of_no_coarse_class_do_not_count() -> None:
    logits = torch.tensor([[9.0, 0.0, 1.0], [9.0, 2.0, 1.0]])
    assert coarse_decisions(logits, [[1], [2]]).tolist() == [1, 0]


def test_probabilities_too_small_for_float32_are_still_compared() -> None:
    logits = torch.tensor([[0.0, -201.0, -200.0]])
    assert coarse_decisions(logits, [[1], [2]]).tolist() == [1]


def test_a_broken_row_decides_nothing() -> None:
    logits = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [1.0, 0.0]])
    assert coarse_decisions(logits, [[0], [1]]).tolist() == [-1, -1, 0]


@pytest.mark.parametrize("values", [1, 7, 1000])
def test_blocks_of_rows_give_what_all_rows_give(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    whole = coarse_decisions(logits, [[0, 1], [2, 3]])
    monkeypatch.setattr("measurements.functional.shape_bias.VALUES_AT_ONCE", values)
    assert coarse_decisions(logits, [[0, 1], [2, 3]]).tolist() == whole.tolist()


@pytest.mark.parametrize("members", [[], [[0], []], [[0], [4]], [[-1]]], ids=str)
def test_impossible_coarse_classes_are_refused(members: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"made of classes in \[0, 4\), got"):
        coarse_decisions(torch.zeros(2, 4), members)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one sample, got \[0, 4\]"):
        coarse_decisions(torch.zeros(0, 4), [[0]])
