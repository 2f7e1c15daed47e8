"""Error against cost, worked by hand on five models of two baselines."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimate import Estimate
from reporting.compare import Row
from reporting.population import Member, read_members
from reporting.tradeoff import Tradeoff, tradeoffs
from store.layout import Layout
from store.runs import Run


def models(sweep: Any, points: dict[str, tuple[str | None, float, float]]) -> list[Tradeoff]:
    """Trade-offs of runs given as name -> (lineage, accuracy, parameters)."""
    for name, (base, accuracy, params) in points.items():
        key = sweep.records(f"{name}-key", [0], [0]) if base is None else "absent"
        sweep.run(name, of=base, passes={"digits": key})
        value = Estimate(accuracy, low=accuracy - 0.125, high=accuracy + 0.0625)
        sweep.cell(name, "benefit", digits_test_accuracy=value)
        sweep.cell(name, "benefit", model_test_params=Estimate(params, unit="parameters"))
    return tradeoffs(sweep.layout, read_members(sweep.layout))


FIVE: dict[str, tuple[str | None, float, float]] = {
    "base": (None, 0.875, 800.0),
    "half": ("base", 0.75, 400.0),
    "worse": ("base", 0.5, 400.0),
    "eighth": ("base", 0.25, 100.0),
    "alone": (None, 0.9375, 400.0),
}


def test_each_point_says_what_it_costs_and_what_it_lost(sweep: Any) -> None:
    (found,) = models(sweep, FIVE)
    assert (found.baseline, found.unit) == ("base", "parameters")
    assert [(p.run_id, p.error, p.cost, p.drop_per_halving) for p in found.points] == [
        ("base", 0.125, 800, None),
        ("eighth", 0.75, 100, pytest.approx(0.625 / 3)),  # three halvings
        ("half", 0.25, 400, 0.125),
        ("worse", 0.5, 400, 0.375),
    ]
    assert (found.points[2].low, found.points[2].high) == (0.1875, 0.375)


def test_a_beaten_point_is_not_on_the_front(sweep: Any) -> None:
    (found,) = models(sweep, FIVE)
    assert [p.run_id for p in found.points if p.on_front] == ["base", "eighth", "half"]
    # a model of its own, `alone`, is as cheap as `half` and better than the baseline
    assert [p.run_id for p in found.points if p.on_front_of_all] == ["eighth"]


def test_a_model_on_another_part_of_the_data_beats_nobody(sweep: Any) -> None:
    points = {name: FIVE[name] for name in ("base", "half")}
    sweep.run("lucky", config={"limit_samples": 8})
    sweep.cell("lucky", "benefit", digits_test_accuracy=1.0)
    sweep.cell("lucky", "benefit", model_test_params=1.0)
    (found,) = models(sweep, points)
    assert [p.run_id for p in found.points if p.on_front_of_all] == ["base", "half"]


def test_a_model_measured_under_another_definition_beats_nobody(sweep: Any) -> None:
    points = {name: FIVE[name] for name in ("base", "half")}
    for name, base in (("lucky", None), ("child", "base")):
        sweep.run(name, of=base)
        sweep.cell(name, "benefit", "other data", digits_test_accuracy=1.0)
        sweep.cell(name, "benefit", model_test_params=1.0)
    (found,) = models(sweep, points)
    assert [p.run_id for p in found.points] == ["base", "half"]
    assert [p.run_id for p in found.points if p.on_front_of_all] == ["base", "half"]


def test_hypervolume_counts_from_guessing_at_full_cost(sweep: Any) -> None:
    (found,) = models(sweep, FIVE)
    # four classes: reference error .75; `eighth` is no better than guessing, `half` one halving
    assert found.hypervolume == pytest.approx(1 * (0.75 - 0.25))


def test_without_records_the_hypervolume_is_not_known(sweep: Any) -> None:
    sweep.run("base")
    sweep.run("half", of="base")
    for name in ("base", "half"):
        sweep.cell(name, "benefit", digits_test_accuracy=0.5)
        sweep.cell(name, "benefit", model_test_params=8.0)
    (found,) = tradeoffs(sweep.layout, read_members(sweep.layout))
    assert found.hypervolume is None


def test_the_best_within_a_budget_costs_at_most_its_share(sweep: Any) -> None:
    (found,) = models(sweep, FIVE)
    assert [(one.share, one.run_id, one.error) for one in found.within] == [
        (0.5, "half", 0.25),
        (0.25, "eighth", 0.75),
        (0.125, "eighth", 0.75),
    ]


def test_no_model_is_that_cheap(sweep: Any) -> None:
    (found,) = models(sweep, {name: FIVE[name] for name in ("base", "half")})
    assert [one.run_id for one in found.within] == ["half", None, None]


def test_an_unknown_cost_is_told_with_the_nearest(sweep: Any) -> None:
    models(sweep, FIVE)
    with pytest.raises(LookupError, match="unknown result 'model_test_parms', did you mean"):
        tradeoffs(sweep.layout, read_members(sweep.layout), cost="model_test_parms")


def member(place: int, error: int, cost: int) -> Member:
    name, base = f"m{place}", None if place == 0 else "m0"
    run = Run(run_id=name, model="n", compressor="c", baseline=base, fingerprint=name, seed=0)
    values = {"digits_test_accuracy": 1 - error / 8, "model_test_params": float(cost)}
    rows = {key: Row(name=key, compressed=Estimate(value)) for key, value in values.items()}
    return Member(run=run, lineage="m0", rows=rows)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), min_size=2, max_size=8))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(points: list[Any]) -> None:
    members = [member(place, *point) for place, point in enumerate(points)]
    (found,) = tradeoffs(Layout(Path("absent")), members)
    for point in found.points:
        beaten = any(
            other.error <= point.error
            and other.cost <= point.cost
            and (other.error, other.cost) != (point.error, point.cost)
            for other in found.points
        )
        assert point.on_front is not beaten
