import math

import pytest
import torch

from measurements.functional.label_sets import entropies, set_hits, soft_cross_entropy


def test_a_hit_is_any_of_the_right_classes_and_empty_sets_are_skipped() -> None:
    hits = set_hits(torch.tensor([5, 5, 5, -1]), [(4, 5), (), (4,), (0,)])
    assert hits.tolist() == [True, False, False]
    assert hits.dtype == torch.bool


def test_sets_belong_to_samples_one_to_one() -> None:
    with pytest.raises(ValueError, match="shorter"):
        set_hits(torch.tensor([1, 2]), [(1,)])


def test_cross_entropy_is_worked_out_by_hand_and_a_broken_row_knows_nothing() -> None:
    # p = (3/4, 1/4): -(0.9 log 3/4 + 0.1 log 1/4)
    logits = torch.tensor([[math.log(3), 0.0], [math.nan, 1.0]])
    found = soft_cross_entropy(logits, torch.tensor([[0.9, 0.1], [0.9, 0.1]]))
    expected = [-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)), math.log(2)]
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_its_floor_is_the_entropy_reached_by_the_shares_themselves() -> None:
    shares = torch.rand(50, 10, generator=torch.Generator().manual_seed(0)).double()
    shares /= shares.sum(dim=1, keepdim=True)
    torch.testing.assert_close(soft_cross_entropy(shares.log(), shares), entropies(shares))
    assert (soft_cross_entropy(torch.randn(50, 10), shares) >= entropies(shares)).all()


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[5, 3\] and \[5, 1\]"):
        soft_cross_entropy(torch.zeros(5, 3), torch.ones(5, 1))
