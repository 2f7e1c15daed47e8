"""Intervals: published numbers, scipy, and the coverage they promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from measurements.functional import intervals
from measurements.functional.intervals import (
    Interval,
    accuracy_difference,
    bootstrap_draws,
    bootstrap_mean_interval,
    bootstrap_means,
    bootstrap_proportions,
    mean_difference_interval,
    median_interval,
    paired_difference,
    percentile_interval,
    wilson_interval,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(8, 10, 0.49016, 0.94332), (0, 10, 0.0, 0.27753), (38065, 50000, 0.75754, 0.76502)],
)
def test_wilson_gives_the_published_numbers(hits: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-6)


@pytest.mark.parametrize("n", [1, 7, 50_000])
def test_wilson_reaches_exactly_zero_and_one(n: int) -> None:
    assert wilson_interval(0, n).low == 0.0
    assert wilson_interval(n, n).high == 1.0


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_agrees_with_scipy(n: int, share: float) -> None:
    hits = round(n * share)
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    # z is rounded to six decimals here
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_proportions_are_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        wilson_interval(hits, n)
    with pytest.raises(ValueError, match="expected 0 <= hits <= n"):
        bootstrap_proportions(hits, n, generator=seeded())


def test_percentiles_cut_the_same_share_from_both_ends() -> None:
    draws = torch.arange(1001.0).flip(0)
    assert percentile_interval(draws) == pytest.approx((25.0, 975.0))
    assert percentile_interval(draws, level=0.9) == pytest.approx((50.0, 950.0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_draws_without_a_value_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no value on some resample"):
        percentile_interval(torch.tensor([1.0, value]))


def test_the_ends_have_names_and_unpack() -> None:
    low, high = interval = percentile_interval(torch.arange(3.0), level=0.5)
    assert (interval.low, interval.high) == (low, high) == (0.5, 1.5)


def test_bootstrap_means_scatter_like_means() -> None:
    values = torch.randn(400, generator=seeded(1)) * 3 + 5
    means = bootstrap_means(values, draws=20_000, generator=seeded())
    error = values.double().std(correction=0).item() / math.sqrt(400)
    assert means.mean().item() == pytest.approx(values.mean().item(), abs=4 * error / 141)
    assert means.std().item() == pytest.approx(error, rel=0.02)  # 4 x 1 / sqrt(2 x 20000)


@pytest.mark.parametrize("sample", [0, 9], ids=["first", "last"])
def test_every_sample_is_drawn_equally_often(sample: int) -> None:
    values = torch.zeros(10)
    values[sample] = 1
    means = bootstrap_means(values, draws=10_000, generator=seeded())
    # 4 standard errors of the mean of 10,000 means
    assert means.mean().item() == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 10) / 100)


@pytest.mark.parametrize("picks", [1, 7, 50, 1000])
def test_means_do_not_depend_on_how_many_are_made_at_once(
    picks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(10, generator=seeded(1))
    expected = bootstrap_means(values, draws=13, generator=seeded())
    monkeypatch.setattr(intervals, "PICKS_AT_ONCE", picks)
    found = bootstrap_means(values, draws=13, generator=seeded())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_equal_seeds_resample_two_models_alike() -> None:
    values = torch.randn(50, generator=seeded(1))
    one = bootstrap_means(values, draws=100, generator=seeded())
    other = bootstrap_means(values + 1, draws=100, generator=seeded())
    torch.testing.assert_close(other - one, torch.ones(100, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_global_random_stream_is_not_touched() -> None:
    before = torch.get_rng_state()
    bootstrap_mean_interval(torch.arange(5.0), generator=seeded())
    bootstrap_proportions(2, 5, generator=seeded())
    bootstrap_draws(lambda ids: {"mean": 0.0}, 5, generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mean_interval_is_as_wide_as_the_normal_one() -> None:
    values = torch.rand(5000, generator=seeded(1))
    low, high = bootstrap_mean_interval(values, generator=seeded())
    width = 2 * 1.96 * math.sqrt(1 / 12 / 5000)
    assert high - low == pytest.approx(width, rel=0.1)
    assert low < 0.5 < high


def test_binomial_draws_are_the_bootstrap_of_zeros_and_ones() -> None:
    resampled = bootstrap_means(torch.arange(60) < 45, draws=5000, generator=seeded(1))
    drawn = bootstrap_proportions(45, 60, draws=5000, generator=seeded(2))
    table = [torch.bincount((x * 60).round().long(), minlength=61) for x in (resampled, drawn)]
    both = torch.stack(table)
    frequent = both[:, both.sum(dim=0) >= 20]
    assert stats.chi2_contingency(frequent.numpy()).pvalue > 0.001


def test_binomial_draws_scatter_as_their_formula_says() -> None:
    drawn = bootstrap_proportions(800, 1000, draws=20_000, generator=seeded())
    assert drawn.std().item() == pytest.approx(math.sqrt(0.8 * 0.2 / 1000), rel=0.02)
    assert drawn.mean().item() == pytest.approx(0.8, abs=4 * 0.0126 / 141)
    torch.testing.assert_close((drawn * 1000).round() / 1000, drawn)


def test_any_statistic_is_drawn_on_resamples_of_the_ids() -> None:
    values = torch.arange(30.0)
    seen = []

    def statistic(ids: torch.Tensor) -> dict[str, float]:
        seen.append(ids)
        return {"mean": values[ids].mean().item(), "largest": values[ids].max().item()}

    found = bootstrap_draws(statistic, 30, draws=400, generator=seeded())
    assert {name: tuple(draws.shape) for name, draws in found.items()} == {
        "mean": (400,),
        "largest": (400,),
    }
    ids = torch.stack(seen)
    assert ids.shape == (400, 30)
    assert torch.bincount(ids.flatten(), minlength=31).tolist()[-1] == 0
    assert ids.unique().tolist() == list(range(30))
    assert found["mean"].std().item() == pytest.approx(8.655 / math.sqrt(30), rel=0.15)


@pytest.mark.parametrize(("n", "draws"), [(0, 10), (10, 0)])
def test_nothing_to_draw_from_is_refused(n: int, draws: int) -> None:
    with pytest.raises(ValueError, match="at least one sample and one draw"):
        bootstrap_draws(lambda ids: {}, n, draws=draws, generator=seeded())


def test_the_published_example_of_a_paired_accuracy_difference() -> None:
    # .761 against .759 of 50,000, 4 % discordant: .089 points and z = 2.24; unpaired .270 and .74
    found = accuracy_difference(0.002, discordant=0.04, n=50_000)
    assert found.standard_error == pytest.approx(0.00089, abs=5e-6)
    assert found.mean / found.standard_error == pytest.approx(2.24, abs=0.005)
    low, high = found.interval
    assert (low, high) == pytest.approx((0.002 - 0.001753, 0.002 + 0.001753), abs=1e-6)


@given(st.integers(1, 300), st.integers(0, 2**31))
def test_hits_and_misses_have_the_error_of_the_accuracy_formula(n: int, seed: int) -> None:
    now, before = torch.rand(2, n, generator=seeded(seed)) < 0.6
    discordant = (now != before).double().mean().item()
    found = paired_difference(now.double() - before.double())
    expected = accuracy_difference(found.mean, discordant=discordant, n=n)
    assert found.standard_error == pytest.approx(expected.standard_error, abs=1e-9)


def test_identical_models_differ_by_exactly_zero() -> None:
    assert mean_difference_interval(torch.zeros(9)) == Interval(0.0, 0.0)
    assert accuracy_difference(0.0, discordant=0.0, n=9).interval == Interval(0.0, 0.0)


def test_a_difference_of_means_worked_by_hand() -> None:
    # mean 2, deviations -2 0 2 0: sd sqrt(2), standard error sqrt(2)/2
    found = paired_difference(torch.tensor([0, 2, 4, 2]))
    assert found.mean == 2.0
    assert found.standard_error == pytest.approx(math.sqrt(0.5))
    half = 1.959964 * math.sqrt(0.5)
    assert found.interval == pytest.approx((2 - half, 2 + half))


def test_rounding_of_an_accuracy_difference_is_forgiven() -> None:
    delta = 0.8 - 0.7  # 0.10000000000000009
    assert accuracy_difference(delta, discordant=0.1, n=10).standard_error == pytest.approx(
        0.0949, abs=1e-4
    )


@pytest.mark.parametrize(
    ("delta", "discordant", "n"), [(0.2, 0.1, 10), (-0.2, 0.1, 10), (0.0, 1.1, 10), (0.0, 0.1, 0)]
)
def test_impossible_differences_are_refused(delta: float, discordant: float, n: int) -> None:
    with pytest.raises(ValueError, match="discordant <= 1"):
        accuracy_difference(delta, discordant=discordant, n=n)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (20, 6, 15), (100, 40, 61)],
)
def test_a_median_lies_between_the_tabulated_order_statistics(n: int, low: int, high: int) -> None:
    shuffled = torch.randperm(n, generator=seeded()) + 1
    assert median_interval(shuffled) == Interval(float(low), float(high))


@given(st.integers(6, 3000))
def test_the_median_interval_agrees_with_scipys(n: int) -> None:
    expected = stats.quantile_test(range(n), p=0.5).confidence_interval(0.95)
    assert median_interval(torch.arange(n)) == pytest.approx((expected.low, expected.high))


def test_five_observations_have_no_interval_of_their_median() -> None:
    with pytest.raises(ValueError, match="at least 6 observations"):
        median_interval(torch.arange(5))


def test_median_intervals_cover_the_median_as_often_as_they_promise() -> None:
    samples = torch.randn(400, 60, generator=seeded(), dtype=torch.float64)
    found = [median_interval(sample) for sample in samples]
    covered = sum(low <= 0 <= high for low, high in found)
    assert covered >= 0.95 * 400 - 4 * math.sqrt(0.05 * 0.95 * 400)
