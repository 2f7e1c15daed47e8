"""Natural shift: intervals against statsmodels, the line against numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.shift import (
    LINE_MODELS,
    LogitLine,
    accuracy_gap,
    effective_robustness,
    fit_logit_line,
    published_line,
)

fractions = st.floats(0.02, 0.98)


@pytest.mark.parametrize(
    ("hits", "n", "shifted_hits", "shifted_n"),
    [(56, 70, 48, 80), (9, 10, 3, 10), (10, 10, 0, 20), (500, 1000, 510, 1000)],
)
def test_the_interval_of_a_gap_is_newcombes(
    hits: int, n: int, shifted_hits: int, shifted_n: int
) -> None:
    oracle = pytest.importorskip("statsmodels.stats.proportion")
    expected = oracle.confint_proportions_2indep(
        hits, n, shifted_hits, shifted_n, compare="diff", method="newcomb"
    )
    found = accuracy_gap(hits, n, shifted_hits=shifted_hits, shifted_n=shifted_n)
    assert found.interval == pytest.approx(expected, abs=1e-6)
    assert found.gap == pytest.approx(hits / n - shifted_hits / shifted_n)


@pytest.mark.parametrize(
    ("counts", "interval"),
    [((9, 10, 3, 10), (0.1705, 0.8090)), ((10, 10, 0, 20), (0.6791, 1.0))],
)
def test_the_interval_of_a_gap_is_the_published_one(
    counts: tuple[int, int, int, int], interval: tuple[float, float]
) -> None:
    hits, n, shifted_hits, shifted_n = counts  # Newcombe (1998), table II, method 10
    found = accuracy_gap(hits, n, shifted_hits=shifted_hits, shifted_n=shifted_n)
    assert found.interval == pytest.approx(interval, abs=5e-5)


@given(st.lists(st.tuples(fractions, fractions), min_size=2, max_size=9, unique_by=lambda p: p[0]))
def test_the_line_is_the_least_squares_one(pairs: list[tuple[float, float]]) -> None:
    x, y = (np.array(values) for values in zip(*pairs, strict=True))
    if np.ptp(x) < 1e-3:
        return
    slope, intercept = np.polyfit(np.log(x / (1 - x)), np.log(y / (1 - y)), 1)
    line = fit_logit_line(x.tolist(), y.tolist())
    assert line.slope == pytest.approx(slope, rel=1e-4, abs=1e-4)
    assert line.intercept == pytest.approx(intercept, rel=1e-3, abs=1e-3)


def test_residuals_of_a_line_are_effective_robustness() -> None:
    line = LogitLine(slope=2.0, intercept=1.0, models=3)
    # log-odds of .75 are ln 3; 2 ln 3 + 1; sigmoid = 9e / (9e + 1)
    expected = 9 * np.e / (9 * np.e + 1)
    assert line.expected(0.75) == pytest.approx(expected)
    assert effective_robustness(0.75, 0.9, line=line) == pytest.approx(0.9 - expected)


@pytest.mark.parametrize("dataset", ["imagenetv2", "imagenet_r", "imagenet_sketch"])
def test_the_shipped_models_lie_about_their_line(dataset: str) -> None:
    line = published_line(dataset)
    residuals = [
        effective_robustness(clean, shifted[dataset], line=line)
        for clean, shifted in LINE_MODELS.values()
    ]
    assert line.models == 5
    assert abs(sum(residuals)) < 0.05
    assert line.slope > 0


def test_imagenet_v2_costs_about_twelve_points() -> None:
    assert 0.762 - published_line("imagenetv2").expected(0.762) == pytest.approx(0.12, abs=0.015)


def test_a_dataset_without_a_line_is_told() -> None:
    with pytest.raises(NotApplicable, match="to cifar10"):
        published_line("cifar10")


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_perfect_accuracy_has_no_log_odds(accuracy: float) -> None:
    with pytest.raises(NotApplicable, match="log-odds"):
        LogitLine(slope=1.0, intercept=0.0, models=2).expected(accuracy)


@pytest.mark.parametrize("pairs", [([0.5], [0.5]), ([0.5, 0.5], [0.1, 0.2]), ([0.5, 0.6], [0.1])])
def test_a_line_needs_two_different_models(pairs: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="two models"):
        fit_logit_line(*pairs)
