"""Adjusted p-values against scipy and by closure; non-inferiority by hand."""

from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from measurements.functional.intervals import Interval
from measurements.functional.multiplicity import benjamini_hochberg, holm, non_inferiority

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=7)


def closed_bonferroni(values: list[float], i: int) -> float:
    """Holm by the closure principle: the worst Bonferroni test of any set that holds test i."""
    others = [j for j in range(len(values)) if j != i]
    sets = [[i, *chosen] for size in range(len(values)) for chosen in combinations(others, size)]
    return max(min(1.0, len(one) * min(values[j] for j in one)) for one in sets)


@given(p_values)
def test_holm_is_the_closure_of_bonferroni(values: list[float]) -> None:
    expected = [closed_bonferroni(values, i) for i in range(len(values))]
    assert holm(values) == pytest.approx(expected)


@given(p_values)
def test_benjamini_hochberg_agrees_with_scipy(values: list[float]) -> None:
    assert benjamini_hochberg(values) == pytest.approx(list(false_discovery_control(values)))


@given(p_values)
def test_adjusted_values_lie_between_their_own_and_one(values: list[float]) -> None:
    for p, discovery, family in zip(values, benjamini_hochberg(values), holm(values), strict=True):
        assert p <= discovery * (1 + 1e-12)
        assert discovery <= family * (1 + 1e-12)
        assert family <= 1


def test_no_test_gives_no_value() -> None:
    assert holm([]) == benjamini_hochberg([]) == []


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(
    adjust: Callable[[list[float]], list[float]], wrong: float
) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        adjust([0.5, wrong])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.0074, 0.01, "non-inferior"),
        (-0.0075, 0.01, "undecided"),  # an end on the margin proves nothing
        (-0.02, -0.0074, "undecided"),
        (-0.02, -0.0076, "inferior"),
        (0.01, 0.02, "non-inferior"),
    ],
)
def test_the_margin_is_one_per_cent_of_the_baseline(low: float, high: float, verdict: str) -> None:
    found = non_inferiority(Interval(low, high), baseline_accuracy=0.75)
    assert found.verdict == verdict
    assert found.margin == pytest.approx(0.0075)
    assert found.slack == pytest.approx(low + 0.0075)


@pytest.mark.parametrize(("low", "verdict"), [(0.001, "non-inferior"), (-0.001, "undecided")])
def test_a_margin_of_zero_tests_superiority(low: float, verdict: str) -> None:
    found = non_inferiority(Interval(low, 0.1), baseline_accuracy=0.75, margin=0.0)
    assert found.verdict == verdict


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        non_inferiority(Interval(0, 0), baseline_accuracy=1.0, margin=-0.01)
