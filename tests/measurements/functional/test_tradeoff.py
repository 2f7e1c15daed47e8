"""The front by definition, the hypervolume by counting, the rest by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.tradeoff import (
    Point,
    best_error_within,
    drop_per_halving,
    hypervolume,
    pareto_front,
)

points = st.lists(
    st.builds(Point, st.integers(0, 8).map(lambda i: i / 8), st.sampled_from([1, 2, 4, 8, 16])),
    min_size=1,
    max_size=12,
)


def beats(one: Point, other: Point) -> bool:
    return one != other and one.error <= other.error and one.cost <= other.cost


@given(points)
def test_the_front_is_what_nothing_beats(found: list[Point]) -> None:
    expected = {i for i, one in enumerate(found) if not any(beats(other, one) for other in found)}
    front = pareto_front(found)
    assert set(front) == expected
    assert len(front) == len(expected)
    costs = [found[i].cost for i in front]
    assert costs == sorted(costs)


@given(points)
def test_the_hypervolume_is_the_area_of_the_union(found: list[Point]) -> None:
    # cells of 1/16 of error by 1/2 of a halving, counted where a point is at least as good
    errors, savings = (np.arange(16) + 0.5) / 16, (np.arange(8) + 0.5) / 2
    covered = np.zeros((16, 8), dtype=bool)
    for one in found:
        covered |= (errors[:, None] > one.error) & (savings < -math.log2(one.cost / 16))
    covered[errors > 0.75] = False
    area = covered.sum() / 16 / 2
    assert hypervolume(found, baseline_cost=16, classes=4) == pytest.approx(area)


@given(points, points)
def test_more_models_never_lower_the_hypervolume(some: list[Point], more: list[Point]) -> None:
    fewer = hypervolume(some, baseline_cost=8, classes=10)
    assert hypervolume([*some, *more], baseline_cost=8, classes=10) >= fewer - 1e-12


@pytest.mark.parametrize(
    ("point", "area"),
    [
        (Point(0.0, 4), 0.9),  # no error, half the cost
        (Point(0.1, 2), 1.6),
        (Point(0.1, 8), 0.0),  # the baseline itself saves nothing
        (Point(0.1, 16), 0.0),
        (Point(0.95, 1), 0.0),  # worse than guessing
    ],
)
def test_one_model_spans_a_rectangle(point: Point, area: float) -> None:
    assert hypervolume([point], baseline_cost=8, classes=10) == pytest.approx(area)


def test_a_model_counted_twice_adds_nothing() -> None:
    one = Point(0.25, 2)
    assert hypervolume([one, one], baseline_cost=8, classes=2) == 0.5


def test_the_best_within_a_cost_may_cost_just_that() -> None:
    some = [Point(0.3, 1), Point(0.2, 4), Point(0.1, 5)]
    assert best_error_within(some, cost=4) == 0.2
    with pytest.raises(NotApplicable, match=r"at most 0\.5"):
        best_error_within(some, cost=0.5)


def test_the_drop_is_for_each_factor_of_two() -> None:
    assert drop_per_halving(Point(0.16, 1), baseline=Point(0.1, 8)) == pytest.approx(0.02)
    assert drop_per_halving(Point(0.08, 4), baseline=Point(0.1, 8)) == pytest.approx(-0.02)


@pytest.mark.parametrize("cost", [8, 9])
def test_a_model_that_saves_nothing_has_no_drop(cost: float) -> None:
    with pytest.raises(NotApplicable, match="nothing was saved"):
        drop_per_halving(Point(0.1, cost), baseline=Point(0.1, 8))


@pytest.mark.parametrize("wrong", [Point(0.1, 0), Point(math.nan, 1), Point(0.1, math.inf)])
def test_numbers_that_are_none_are_refused(wrong: Point) -> None:
    with pytest.raises(ValueError, match="positive finite costs"):
        pareto_front([wrong])


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        pareto_front([])


@pytest.mark.parametrize(("cost", "classes"), [(0, 10), (8, 1), (math.inf, 10)])
def test_a_reference_that_is_none_is_refused(cost: float, classes: int) -> None:
    with pytest.raises(ValueError, match="positive cost"):
        hypervolume([Point(0.1, 1)], baseline_cost=cost, classes=classes)
