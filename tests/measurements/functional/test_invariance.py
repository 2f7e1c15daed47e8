import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.functional import invariance as module
from measurements.functional.invariance import consistency, derangement, invariance


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_two_samples_worked_by_hand() -> None:
    logits = torch.tensor([[5.0, 3.0], [0.0, 4.0]])  # centred (1, -1), (-2, 2): 3 sqrt 2 apart
    moved = torch.tensor([[9.0, 7.0], [4.0, 4.0]])  # centred (1, -1), (0, 0): moved 0, 2 sqrt 2
    assert invariance(logits, transformed=moved) == pytest.approx(1 - 1 / 3)


def test_it_is_a_ratio_of_means_not_a_mean_of_ratios() -> None:
    # of three samples every pair is compared: 1, 2 and 3 apart, 2 in the mean, all times sqrt 2
    logits = torch.tensor([[0.0, 0.0], [1.0, -1.0], [3.0, -3.0]])
    moved = torch.tensor([[0.5, -0.5], [1.0, -1.0], [3.0, -3.0]])
    assert invariance(logits, transformed=moved) == pytest.approx(1 - (0.5 / 3) / 2)


def test_nothing_changed_is_exactly_1() -> None:
    logits = normal(50, 10)
    assert invariance(logits, transformed=logits.clone()) == 1.0


def test_a_flip_symmetrised_model_is_exactly_invariant_to_flips() -> None:
    layer, images = nn.Linear(8, 5), normal(20, 8)

    def model(x: Tensor) -> Tensor:
        return (layer(x) + layer(x.flip(1))) / 2

    assert invariance(model(images), transformed=model(images.flip(1))) == 1.0


def test_another_sample_in_place_of_the_transformed_one_is_0() -> None:
    logits = normal(30, 4)
    assert invariance(logits, transformed=logits[derangement(30)]) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 2**31), st.floats(-10, 10), st.floats(0.1, 10))
def test_the_level_and_the_scale_of_the_logits_do_not_matter(
    seed: int, level: float, scale: float
) -> None:
    logits, moved = normal(9, 4, seed=seed).double(), normal(9, 4, seed=seed + 1).double()
    found = invariance(scale * logits + level, transformed=scale * moved - level)
    assert found == pytest.approx(invariance(logits, transformed=moved), rel=1e-6, abs=1e-9)


def test_a_broken_row_counts_as_uniform() -> None:
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    broken = torch.tensor([[math.nan, 0.0], [-1.0, 1.0]])
    # moved sqrt 2 and 0; 2 sqrt 2 apart
    assert invariance(logits, transformed=broken) == pytest.approx(1 - 0.25)


@pytest.mark.parametrize("values", [1, 12, 10_000])
def test_blocks_of_rows_give_what_all_rows_give(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, moved = normal(10, 4), normal(10, 4, seed=1)
    whole = invariance(logits, transformed=moved)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", values)
    assert invariance(logits, transformed=moved) == pytest.approx(whole, rel=1e-12)


def test_a_constant_model_has_no_invariance_but_is_consistent() -> None:
    with pytest.raises(NotApplicable, match="all samples alike"):
        invariance(torch.ones(5, 3), transformed=torch.ones(5, 3))
    same = torch.zeros(5, dtype=torch.int64)
    assert consistency(same, transformed=same) == 1.0


def test_consistency_counts_equal_predictions_of_sound_rows() -> None:
    found = consistency(torch.tensor([1, 2, -1, -1, 0]), transformed=torch.tensor([1, 0, -1, 0, 0]))
    assert found == 0.4


@pytest.mark.parametrize("n", [2, 3, 10, 1001])
def test_a_derangement_is_one_cycle_without_a_fixed_point_and_always_the_same(n: int) -> None:
    partner = derangement(n)
    assert sorted(partner.tolist()) == list(range(n))
    at, seen = 0, set()
    while at not in seen:
        seen.add(at)
        at = int(partner[at])
    assert len(seen) == n
    assert derangement(n).tolist() == partner.tolist()


def test_partners_are_not_neighbours_in_a_sorted_dataset() -> None:
    labels = torch.arange(1000) // 100
    assert (labels == labels[derangement(1000)]).float().mean() < 0.15  # .1 by chance


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 3\] and \[5, 1\]"):
        invariance(torch.ones(5, 3), transformed=torch.ones(5, 1))
    with pytest.raises(ValueError, match="at least 2 samples to compare, got 1"):
        invariance(torch.ones(1, 3), transformed=torch.ones(1, 3))
