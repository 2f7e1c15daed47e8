"""Likeness of logits: scipy as the oracle."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from measurements.functional.logit_similarity import (
    logit_cosine,
    rank_correlation,
    topk_overlap,
)

Compare = Callable[..., torch.Tensor]

sizes = st.tuples(st.integers(1, 8), st.integers(3, 12), st.integers(2, 9), st.integers(0, 2**31))


def drawn(size: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    n, classes, values, seed = size
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n, classes)
    now, before = torch.randint(values, shape, generator=generator).float()
    return now, before


@given(size=sizes)
def test_ranks_correlate_as_in_scipy(size: tuple[int, int, int, int]) -> None:
    now, before = drawn(size)
    for x, y, found in zip(now, before, rank_correlation(now, baseline=before), strict=True):
        if x.unique().numel() > 1 and y.unique().numel() > 1:
            assert found.item() == pytest.approx(spearmanr(x, y).statistic)


@given(size=sizes)
def test_the_cosine_is_that_of_centred_rows(size: tuple[int, int, int, int]) -> None:
    now, before = drawn(size)
    for x, y, found in zip(now, before, logit_cosine(now, baseline=before), strict=True):
        if x.unique().numel() > 1 and y.unique().numel() > 1:
            assert found.item() == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("compare", [logit_cosine, rank_correlation])
@given(size=sizes)
def test_a_model_is_like_itself(compare: Compare, size: tuple[int, int, int, int]) -> None:
    now, _ = drawn(size)
    torch.testing.assert_close(
        compare(now, baseline=now), torch.ones(len(now), dtype=torch.float64)
    )


@pytest.mark.parametrize("compare", [logit_cosine, rank_correlation])
@given(size=sizes)
def test_a_shift_and_a_scale_change_nothing(
    compare: Compare, size: tuple[int, int, int, int]
) -> None:
    now, before = drawn(size)
    torch.testing.assert_close(compare(3 * now - 5, baseline=before), compare(now, baseline=before))


@pytest.mark.parametrize("compare", [logit_cosine, rank_correlation])
def test_a_broken_row_is_like_a_broken_row_alone(compare: Compare) -> None:
    broken, sound = torch.full((1, 3), torch.nan), torch.tensor([[0.0, -1.0, -2.0]])
    assert compare(broken, baseline=broken).item() == 1
    assert compare(broken, baseline=sound).item() == 0


@pytest.mark.parametrize(
    ("top", "before", "k", "expected"),
    [
        ([3, 1, 2], [2, 3, 1], 3, 1.0),
        ([3, 1, 2], [2, 3, 1], 2, 0.5),
        ([3, 1, 2], [2, 3, 1], 1, 0.0),
        ([3, 1, 2], [3, 4, 5], 1, 1.0),
        ([-1, -1, -1], [-1, -1, -1], 3, 0.0),
    ],
)
def test_overlap_ignores_the_order(
    top: list[int], before: list[int], k: int, expected: float
) -> None:
    found = topk_overlap(torch.tensor([top]), baseline=torch.tensor([before]), k=k)
    assert found.tolist() == [expected]


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_is_recorded_cannot_be_compared(k: int) -> None:
    top = torch.zeros(1, 3).long()
    with pytest.raises(ValueError, match="best classes"):
        topk_overlap(top, baseline=top, k=k)


def test_logits_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 4\]"):
        logit_cosine(torch.zeros(2, 3), baseline=torch.zeros(2, 4))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now, before = drawn((7, 5, 4, 0))
    whole = rank_correlation(now, baseline=before)
    monkeypatch.setattr("measurements.functional.rows.VALUES_AT_ONCE", 10)
    assert torch.equal(rank_correlation(now, baseline=before), whole)
