"""Trade-off of error against cost: which models are worth having, and how good a set of them is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from core.errors import NotApplicable


class Point(NamedTuple):
    """A model as two numbers of which less is better."""

    error: float  # fraction in [0, 1]
    cost: float  # any unit, positive: MACs, bytes, milliseconds


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Positions of the points that no other point beats, by ascending cost.

    A point is beaten by one that is at least as good in both numbers and better in one. Equal
    points do not beat each other.

    Args:
        points: One a model.

    Example:
        >>> pareto_front([Point(0.2, 4), Point(0.1, 8), Point(0.3, 4), Point(0.1, 9)])
        [0, 1]

    Reference:
        Blalock et al., What is the state of neural network pruning? (2020): report the curve.
    """
    _require_numbers(points)
    order = sorted(range(len(points)), key=lambda i: (points[i].cost, points[i].error))
    front: list[int] = []
    for i in order:
        best = points[front[-1]] if front else None
        if best is None or points[i].error < best.error or points[i] == best:
            front.append(i)
    return front


def hypervolume(points: Sequence[Point], *, baseline_cost: float, classes: int) -> float:
    """Area between the front and the corner of a useless model that costs as much as the baseline.

    Both error and log2(cost / cost of the baseline) are minimised, seen from the reference point
    (1 - 1/C, 0): guessing, at full cost. Points beyond the reference in either add nothing.

    Args:
        points: One a model.
        baseline_cost: Cost of the uncompressed model, in the unit of the points.
        classes: Number of classes C.

    Returns:
        At least 0, higher is better: a model without error at half the cost gives 1 - 1/C.

    Example:
        >>> hypervolume([Point(0.25, 2), Point(0.0, 4)], baseline_cost=8, classes=2)  # .25 2 + .25
        0.75

    Reference:
        Zitzler & Thiele, Multiobjective optimization using evolutionary algorithms (1998).
    """
    if classes < 2 or not 0 < baseline_cost < math.inf:
        raise ValueError(
            "expected at least 2 classes and a positive cost, "
            f"got classes={classes}, baseline_cost={baseline_cost}"
        )
    area, ceiling = 0.0, 1 - 1 / classes
    for i in pareto_front(points):  # cheapest first, each better than all before it
        saved = max(0.0, -math.log2(points[i].cost / baseline_cost))
        area += saved * max(0.0, ceiling - points[i].error)
        ceiling = min(ceiling, points[i].error)
    return area


def best_error_within(points: Sequence[Point], *, cost: float) -> float:
    """Lowest error among the models that cost at most `cost`: a comparison at matched cost.

    Raises:
        NotApplicable: No model is that cheap.

    Example:
        >>> best_error_within([Point(0.25, 2), Point(0.125, 4), Point(0.0, 8)], cost=5)
        0.125

    Reference:
        Blalock et al., What is the state of neural network pruning? (2020), section 5.
    """
    _require_numbers(points)
    errors = [point.error for point in points if point.cost <= cost]
    if not errors:
        raise NotApplicable(f"no model costs at most {cost:g}")
    return min(errors)


def drop_per_halving(point: Point, *, baseline: Point) -> float:
    """Accuracy lost for each halving of the cost.

    Args:
        point: The compressed model.
        baseline: The model it was made from, in the same unit.

    Returns:
        Fraction for each factor of 2; lower is better; negative where accuracy rose.

    Raises:
        NotApplicable: The model is not cheaper.

    Example:
        >>> drop_per_halving(Point(0.5, 2), baseline=Point(0.25, 8))
        0.125
    """
    _require_numbers([point, baseline])
    if point.cost >= baseline.cost:
        raise NotApplicable(
            f"the model costs {point.cost:g} and its baseline {baseline.cost:g}: nothing was saved"
        )
    return (point.error - baseline.error) / math.log2(baseline.cost / point.cost)


def _require_numbers(points: Sequence[Point]) -> None:
    if not points:
        raise ValueError("expected at least one point, got none")
    wrong = [p for p in points if not (math.isfinite(p.error) and 0 < p.cost < math.inf)]
    if wrong:
        raise ValueError(f"expected finite errors and positive finite costs, got {wrong}")
