"""Error against cost: which models of a store are worth having."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.errors import NotApplicable, unknown
from core.names import measured_in
from measurements.functional.tradeoff import Point as Pair
from measurements.functional.tradeoff import drop_per_halving, hypervolume, pareto_front
from reporting.population import Member, named
from store.layout import Layout
from store.records import find_records

COST = "model_test_params"

ERROR = "accuracy"

SHARES = (0.5, 0.25, 0.125)
"""Budgets, as shares of what the baseline costs."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model as error and cost.

    Args:
        run_id: Its run.
        recipe: What was done to it, as text; empty for the baseline.
        error: 1 - accuracy.
        low: Lower end of the error's 95 % interval, None where there is none.
        high: Upper end.
        cost: In the unit of the trade-off.
        on_front: No other model of the same baseline is at least as good in both and better in one.
        on_front_of_all: The same among all models that were measured on this data.
        drop_per_halving: Accuracy lost for each halving of the cost; None for the baseline and
            where nothing was saved.
    """

    run_id: str
    model: str
    recipe: str
    error: float
    low: float | None
    high: float | None
    cost: float
    on_front: bool
    on_front_of_all: bool
    drop_per_halving: float | None


@dataclass(frozen=True, kw_only=True)
class Within:
    """The best model that costs at most a share of what the baseline costs."""

    share: float
    run_id: str | None  # None where no model is that cheap
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """All that was made of one baseline.

    Args:
        accuracy: Result name the errors come from.
        cost: Result name of the cost.
        unit: Of the cost.
        baseline: Run id of the baseline.
        points: The baseline, then what was made of it, by ascending cost.
        hypervolume: Area the models win from guessing at full cost; None where the number of
            classes is not known, because there are no records.
        within: Best models within budgets.
    """

    accuracy: str
    cost: str
    unit: str
    baseline: str
    points: list[Point] = field(default_factory=list)
    hypervolume: float | None = None
    within: list[Within] = field(default_factory=list)


def tradeoffs(
    layout: Layout, members: Sequence[Member], *, cost: str = COST, accuracy: str = ERROR
) -> list[Tradeoff]:
    """One trade-off for every dataset and every baseline that something was made of.

    Args:
        layout: The store, for the number of classes.
        members: All its runs.
        cost: Result name of a positive number of which less is better, or its short name.
        accuracy: Result name of a fraction, or its short name: then one for each dataset.

    Raises:
        LookupError: Nothing of that name was measured.
    """
    (cost_name,) = _known(members, cost)[:1]
    return [
        _tradeoff(layout, family, everyone, name, cost_name)
        for name in _known(members, accuracy)
        for everyone in [_measured(members, name, cost_name)]
        for family in _families(everyone, name, cost_name)
    ]


def _known(members: Sequence[Member], wanted: str) -> list[str]:
    found = named(members, wanted)
    if not found:
        names = sorted({name for member in members for name in member.rows})
        raise LookupError(f"no run has measured it: {unknown('result', wanted, names)}")
    return found


def _measured(members: Sequence[Member], accuracy: str, cost: str) -> list[Member]:
    return [
        member
        for member in members
        if member.value(accuracy) is not None and (member.value(cost) or 0) > 0
    ]


def _families(members: Sequence[Member], accuracy: str, cost: str) -> list[list[Member]]:
    """Each baseline once, then what was made of it; a baseline alone is no trade-off."""
    bases: dict[tuple[str, ...], Member] = {}
    made: dict[tuple[str, ...], list[Member]] = {}
    for member in members:
        family = (member.lineage, *_definition(member, accuracy, cost))
        if member.run.baseline is None:
            bases.setdefault(family, member)
        else:
            made.setdefault(family, []).append(member)
    return [[bases[family], *rest] for family, rest in made.items() if family in bases]


def _definition(member: Member, accuracy: str, cost: str) -> tuple[str, str, str]:
    """Which part of the data a run looked at, and what was measured: others are not compared."""
    part = str(member.run.config.get("limit_samples"))
    return part, member.key(accuracy), member.key(cost)


def _tradeoff(
    layout: Layout, family: Sequence[Member], everyone: Sequence[Member], accuracy: str, cost: str
) -> Tradeoff:
    ordered = sorted(
        family, key=lambda one: (one.run.baseline is not None, _pair(one, accuracy, cost).cost)
    )
    pairs = [_pair(member, accuracy, cost) for member in ordered]
    best = {ordered[i].run_id for i in pareto_front(pairs)}
    base = ordered[0]
    alike = _definition(base, accuracy, cost)
    rivals = [member for member in everyone if _definition(member, accuracy, cost) == alike]
    front = pareto_front([_pair(member, accuracy, cost) for member in rivals])
    best_of_all = {rivals[i].run_id for i in front}
    unit = base.value(cost)
    assert unit is not None, "only what was measured is here"
    return Tradeoff(
        accuracy=accuracy,
        cost=cost,
        unit=unit.unit,
        baseline=base.run_id,
        points=[
            _point(member, pair, pairs[0], accuracy, best, best_of_all)
            for member, pair in zip(ordered, pairs, strict=True)
        ],
        hypervolume=_hypervolume(layout, base.run.passes.get(measured_in(accuracy)[0]), pairs),
        within=[_within(share, ordered, pairs) for share in SHARES],
    )


def _pair(member: Member, accuracy: str, cost: str) -> Pair:
    right, paid = member.value(accuracy), member.value(cost)
    assert right is not None, "only what was measured is here"
    assert paid is not None, "only what was measured is here"
    return Pair(error=1 - float(right), cost=float(paid))


def _point(
    member: Member, pair: Pair, baseline: Pair, accuracy: str, best: set[str], best_of_all: set[str]
) -> Point:
    right = member.value(accuracy)
    assert right is not None, "only what was measured is here"
    return Point(
        run_id=member.run_id,
        model=member.run.model,
        recipe=member.recipe,
        error=pair.error,
        low=None if right.high is None else 1 - right.high,
        high=None if right.low is None else 1 - right.low,
        cost=pair.cost,
        on_front=member.run_id in best,
        on_front_of_all=member.run_id in best_of_all,
        drop_per_halving=_drop(pair, baseline),
    )


def _drop(pair: Pair, baseline: Pair) -> float | None:
    try:
        return drop_per_halving(pair, baseline=baseline)
    except NotApplicable:
        return None


def _within(share: float, members: Sequence[Member], pairs: Sequence[Pair]) -> Within:
    budget = share * pairs[0].cost
    fitting = [i for i, pair in enumerate(pairs) if pair.cost <= budget]
    best = min(fitting, key=lambda i: pairs[i], default=None)
    return Within(
        share=share,
        run_id=None if best is None else members[best].run_id,
        error=None if best is None else pairs[best].error,
    )


def _hypervolume(layout: Layout, key: str | None, pairs: Sequence[Pair]) -> float | None:
    """With the number of classes from the baseline's records."""
    found = None if key is None else find_records(layout, key)
    if found is None:
        return None
    classes = int(found.manifest["classes"])
    return hypervolume(pairs, baseline_cost=pairs[0].cost, classes=classes)
