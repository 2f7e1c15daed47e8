"""Which property of a model goes with which benefit? Over all runs of a store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from core.errors import NotApplicable
from measurements.functional.association import Association, associate_all, coupled
from reporting.population import Member, source_of, unlike_note, usual

What = Literal["values", "changes"]
"""The numbers of the models themselves, or compressed minus baseline."""

SEED = 0


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a scatter plot."""

    run_id: str
    model: str
    lineage: str
    x: float  # the property
    y: float  # the benefit


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A property and a benefit that were both measured of enough models."""

    prop: str  # result name
    benefit: str
    found: Association
    points: list[Point]


@dataclass(frozen=True, kw_only=True)
class Associations:
    """All pairs of a store, or why there are none.

    Args:
        what: What was correlated.
        pairs: By adjusted p-value, then by strength; empty where `missing` says why.
        missing: What has to be evaluated before there are numbers; empty where there are.
        notes: What was left out, one sentence each.
    """

    what: What
    pairs: list[Pair] = field(default_factory=list)
    missing: str = ""
    notes: list[str] = field(default_factory=list)


def associations(
    members: Sequence[Member], what: What = "values", *, draws: int | None = None
) -> Associations:
    """Every property against every benefit, over lineages of models.

    Pairs that are coupled by arithmetic are left out; the p-values are adjusted for the number of
    pairs that were looked at.

    Args:
        members: All runs of a store.
        what: `values`, or `changes` against the baseline.
        draws: Permutations and resamples of each pair; by default as many as the number of pairs
            asks for.
    """
    chosen, notes = _comparable(members if what == "values" else _compressed(members))
    sources = {
        name: source_of(row) for member in chosen for name, row in member.rows.items() if row.values
    }
    (properties, unlike), (benefits, more) = (
        _columns(chosen, kind, what) for kind in ("property", "benefit")
    )
    notes += [*unlike, *more]

    def follows(prop: str, benefit: str) -> bool:
        (data, one, view), (other_data, other, other_view) = sources[prop], sources[benefit]
        return data == other_data and view == other_view and coupled(one, other)

    if empty := _unmeasured(properties, benefits):
        return Associations(what=what, missing=empty, notes=notes)
    try:
        found = associate_all(
            properties,
            benefits,
            [member.lineage for member in chosen],
            generator=np.random.default_rng(SEED),
            draws=draws,
            left_out=follows,
        )
    except NotApplicable as absent:
        return Associations(what=what, missing=str(absent), notes=notes)
    pairs = [
        Pair(
            prop=prop,
            benefit=benefit,
            found=one,
            points=_points(chosen, properties[prop], benefits[benefit]),
        )
        for (prop, benefit), one in found.items()
    ]
    tied = sum(follows(prop, benefit) for prop in properties for benefit in benefits)
    rest = len(properties) * len(benefits) - tied - len(pairs)
    return Associations(
        what=what,
        pairs=sorted(pairs, key=lambda pair: (pair.found.adjusted, -abs(pair.found.spearman))),
        missing="" if pairs else "no pair was measured of 10 lineages and varies between them",
        notes=[*notes, *_left_out(tied, rest)],
    )


def _compressed(members: Sequence[Member]) -> list[Member]:
    return [member for member in members if member.run.baseline is not None]


def _comparable(members: Sequence[Member]) -> tuple[list[Member], list[str]]:
    """Runs on the same part of the data: those of the most frequent `limit_samples`."""
    limits = Counter(member.run.config.get("limit_samples") for member in members)
    if len(limits) < 2:
        return list(members), []
    (limit, count), *_ = limits.most_common(1)
    kept = [member for member in members if member.run.config.get("limit_samples") == limit]
    rest = len(members) - count
    return kept, [
        f"{rest} runs on another part of the data than limit_samples={limit} are left out"
    ]


def _columns(
    members: Sequence[Member], kind: str, what: What
) -> tuple[dict[str, list[float | None]], list[str]]:
    """Result name -> its number of every model, None where there is none of the usual definition.

    Also a sentence for each name of which numbers were left out.
    """
    names = {
        name: None for member in members for name, row in member.rows.items() if row.kind == kind
    }
    found = {name: _alike(members, name, what) for name in names}
    columns = {
        name: column
        for name, (column, _) in found.items()
        if any(value is not None for value in column)
    }
    return columns, [unlike_note(name, count) for name, (_, count) in found.items() if count]


def _alike(members: Sequence[Member], name: str, what: What) -> tuple[list[float | None], int]:
    """Numbers of the usual definition, None elsewhere, and how many of others there were."""
    of_models = what == "values"
    values = [member.value(name) if of_models else member.change(name) for member in members]
    keys = [member.key(name) if of_models else member.change_key(name) for member in members]
    chosen = usual(keys)
    kept = [
        None if value is None or key != chosen else float(value)
        for value, key in zip(values, keys, strict=True)
    ]
    return kept, kept.count(None) - values.count(None)


def _points(
    members: Sequence[Member], xs: Sequence[float | None], ys: Sequence[float | None]
) -> list[Point]:
    return [
        Point(run_id=member.run_id, model=member.run.model, lineage=member.lineage, x=x, y=y)
        for member, x, y in zip(members, xs, ys, strict=True)
        if x is not None and y is not None
    ]


def _unmeasured(properties: Mapping[str, object], benefits: Mapping[str, object]) -> str:
    absent = [
        kind for kind, found in (("property", properties), ("benefit", benefits)) if not found
    ]
    if not absent:
        return ""
    return (
        f"no {' and no '.join(absent)} is in the store; evaluate again with measurements of both "
        "kinds (results of an earlier version do not say their kind)"
    )


def _left_out(tied: int, rest: int) -> list[str]:
    notes = []
    if tied:
        notes.append(f"{tied} pairs that follow from each other by arithmetic are left out")
    if rest:
        notes.append(
            f"{rest} pairs that fewer than 10 lineages have, or of which one side is the same "
            "for every lineage, are left out"
        )
    return notes
