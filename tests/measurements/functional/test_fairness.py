"""Group fairness and disparity: by hand, and against shuffling for real."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.fairness import (
    class_spread,
    disparity_amplification,
    encode,
    gap_permutation,
    group_accuracies,
    permuted_counts,
)

NINE_AND_FIVE = torch.tensor([1] * 9 + [0] + [1] * 5 + [0] * 5).bool()
TWO_TENS = torch.arange(20) // 10

pairs = st.tuples(st.integers(10, 80), st.integers(2, 5), st.integers(0, 2**31))


def drawn(size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hits of two models, and groups that all have a sample."""
    n, groups, seed = size
    generator = torch.Generator().manual_seed(seed)
    hits = torch.rand(2, n, generator=generator) < 0.7
    return hits[0], hits[1], torch.arange(n) % groups


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_nine_and_five_of_ten_are_four_tenths_apart() -> None:
    found = group_accuracies(NINE_AND_FIVE, TWO_TENS)
    assert found.gap == pytest.approx(0.4)
    assert found.ratio == pytest.approx(5 / 9)
    assert (found.worst, found.smallest) == (0.5, 10)
    assert found.hits.tolist() == [9, 5]


def test_each_group_has_its_wilson_interval() -> None:
    oracle = pytest.importorskip("statsmodels.stats.proportion")
    expected = [oracle.proportion_confint(hits, 10, method="wilson") for hits in (9, 5)]
    found = group_accuracies(NINE_AND_FIVE, TWO_TENS).intervals
    assert found == [pytest.approx(one, abs=1e-6) for one in expected]


def test_samples_without_a_group_and_codes_without_a_sample_count_nowhere() -> None:
    groups = torch.tensor([-1, 0, 0, 3, 3, 3])
    found = group_accuracies(torch.tensor([0, 1, 0, 1, 1, 0]).bool(), groups)
    assert (found.codes.tolist(), found.sizes.tolist()) == ([0, 3], [2, 3])
    assert found.hits.tolist() == [1, 2]


def test_groups_without_any_hit_are_equal() -> None:
    found = group_accuracies(torch.zeros(4).bool(), torch.tensor([0, 0, 1, 1]))
    assert (found.gap, found.ratio) == (0, 1)


def test_one_group_is_nothing_to_compare() -> None:
    with pytest.raises(NotApplicable, match="two groups with samples, got 1"):
        group_accuracies(torch.ones(3).bool(), torch.tensor([0, 0, -1]))


@pytest.mark.parametrize("sizes", [[6, 4, 2], [1, 1, 10]])
def test_dealing_counts_is_shuffling_samples(sizes: list[int]) -> None:
    totals, draws = np.array([5, 3, 4]), 20_000
    counts = permuted_counts(np.array(sizes), totals, draws, rng())
    kinds, groups = np.repeat([0, 1, 2], totals), np.repeat([0, 1, 2], sizes)
    generator = np.random.default_rng(1)
    shuffled = np.zeros((draws, 3, 3))
    for one in shuffled:
        np.add.at(one, (generator.permutation(groups), kinds), 1)
    error = 4 * shuffled.std(axis=0) * math.sqrt(2 / draws) + 1e-9
    assert (np.abs(counts.mean(axis=0) - shuffled.mean(axis=0)) <= error).all()
    # the whole distribution of a corner and of a product of two cells, not the means alone
    assert abs(counts[:, 0, 0].var() - shuffled[:, 0, 0].var()) < 0.06
    product = [(x[:, 0, 0] * x[:, 1, 1]).mean() for x in (counts, shuffled)]
    assert product[0] == pytest.approx(product[1], abs=0.1)


def test_the_null_of_the_gap_is_that_of_shuffled_groups() -> None:
    found = gap_permutation(NINE_AND_FIVE, TWO_TENS, draws=20_000, generator=rng())
    # hits of a group: hypergeometric of 14 in 20, 10 drawn. |2h - 14| / 10, worked out exactly
    ways = {h: math.comb(14, h) * math.comb(6, 10 - h) for h in range(4, 11)}
    total = sum(ways.values())
    mean = sum(w * abs(2 * h - 14) / 10 for h, w in ways.items()) / total
    tail = sum(w for h, w in ways.items() if abs(2 * h - 14) >= 4) / total
    assert found.value == pytest.approx(0.4)
    assert found.null_mean == pytest.approx(mean, abs=0.005)
    assert found.p_value == pytest.approx(tail, abs=0.012)


@given(size=pairs)
def test_the_gap_of_meaningless_groups_is_rarely_significant(size: tuple[int, int, int]) -> None:
    correct, _, groups = drawn(size)
    found = gap_permutation(correct, groups, draws=200, generator=rng())
    assert found.null.low <= found.null_mean <= found.null.high
    assert 1 / 201 <= found.p_value <= 1
    assert 0 <= found.value <= 1


def test_p_values_of_meaningless_groups_are_even() -> None:
    p_values = [
        gap_permutation(*drawn((60, 3, seed))[::2], draws=200, generator=rng()).p_value
        for seed in range(100)
    ]
    assert sum(p <= 0.1 for p in p_values) <= 10 + 3 * 3  # binomial(100, .1): sd 3


@given(size=pairs)
def test_equal_models_amplify_nothing(size: tuple[int, int, int]) -> None:
    correct, _, groups = drawn(size)
    found = disparity_amplification(correct, groups, baseline=correct, draws=50, generator=rng())
    assert (found.value, found.null_mean, *found.null, found.p_value) == (0, 0, 0, 0, 1)


@given(size=pairs)
def test_amplification_is_gap_minus_gap(size: tuple[int, int, int]) -> None:
    now, before, groups = drawn(size)
    found = disparity_amplification(now, groups, baseline=before, draws=50, generator=rng())
    gap = group_accuracies(now, groups).gap - group_accuracies(before, groups).gap
    assert found.value == pytest.approx(gap)


def test_the_null_of_amplification_is_that_of_shuffled_groups() -> None:
    now, before, groups = drawn((40, 3, 7))
    found = disparity_amplification(now, groups, baseline=before, draws=5000, generator=rng())
    shuffle = torch.Generator().manual_seed(0)
    nulls = []
    for _ in range(1500):
        dealt = groups[torch.randperm(40, generator=shuffle)]
        nulls.append(group_accuracies(now, dealt).gap - group_accuracies(before, dealt).gap)
    assert found.null_mean == pytest.approx(np.mean(nulls), abs=4 * np.std(nulls) / 1500**0.5)
    assert list(found.null) == pytest.approx(np.quantile(nulls, [0.025, 0.975]), abs=0.06)


def test_harm_to_one_group_is_found() -> None:
    groups, right = torch.arange(200) // 100, torch.ones(200).bool()
    hurt = (groups == 0) | (torch.arange(200) % 4 > 0)  # 25 of the second hundred lost
    found = disparity_amplification(hurt, groups, baseline=right, generator=rng())
    assert found.value == pytest.approx(0.25)
    assert found.p_value == 1 / 2001  # no permutation is as large, the sample itself is counted
    assert found.value > found.null.high


def test_the_spread_of_classes_by_hand() -> None:
    labels = torch.tensor([0] * 4 + [1] * 2 + [3] * 4)
    now = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1, 1, 1]).bool()
    before = torch.tensor([1, 1, 1, 0, 1, 0, 1, 1, 1, 0]).bool()
    found = class_spread(now, labels, baseline=before)
    # d = -1/4, 1/2, 0; discordant 1/4, 1/2, 1/2; mean 1/12
    deltas = np.array([-0.25, 0.5, 0.0])
    noise = np.array([(1 / 4 - 1 / 16) / 4, (1 / 2 - 1 / 4) / 2, (1 / 2) / 4])
    assert found.observed == pytest.approx(deltas.std(ddof=1))
    assert found.expected == pytest.approx(math.sqrt(noise.mean()))
    assert found.classes == 3
    assert found.ratio == pytest.approx(found.observed / found.expected)


def test_classes_that_change_alike_spread_as_noise_does() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40_000) % 400
    before = torch.rand(40_000, generator=generator) < 0.8
    now = before ^ (torch.rand(40_000, generator=generator) < 0.1)
    found = class_spread(now, labels, baseline=before)
    assert found.ratio == pytest.approx(1.0, abs=4 / math.sqrt(2 * 399))


def test_equal_models_have_no_noise_to_compare_with() -> None:
    found = class_spread(NINE_AND_FIVE, TWO_TENS, baseline=NINE_AND_FIVE)
    assert (found.observed, found.expected, found.ratio) == (0, 0, None)


def test_one_class_has_no_spread() -> None:
    with pytest.raises(NotApplicable, match="two classes"):
        class_spread(torch.ones(2).bool(), torch.zeros(2).long(), baseline=torch.ones(2).bool())


def test_codes_follow_the_sorted_names() -> None:
    codes, names = encode({3: "old", 5: "young", 7: "old"}, torch.tensor([7, 5, 4, 3, 3]))
    assert names == ["old", "young"]
    assert codes.tolist() == [0, 1, -1, 0, 0]
