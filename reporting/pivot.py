"""All runs side by side: a row a run, what differs between their recipes, chosen numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from core.errors import unknown
from core.estimate import Estimate
from core.names import SPLITS
from reporting.compare import Row, without_marker
from reporting.numbers import scale_of
from reporting.population import Member, named, unlike_note, usual
from reporting.sheets import Sheet, View
from store.runs import Run

DEFAULT = ("accuracy", "delta_accuracy", "params", "macs", "weight_bytes", "latency_ratio")

DELTA = "delta_"

SPREAD = (
    "spread: standard deviation over models of different weights whose runs differ only by seed, "
    "or by the checkpoint they started from. It is what another training would give, and not the "
    "sampling interval, which speaks of another test set."
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One chosen number.

    Args:
        name: Result name.
        row: Name of the row it is found in; a change stands in the row of what changed.
        short: Name without dataset and split, where no other column has it.
    """

    name: str
    row: str
    short: str
    key: str = ""  # of the definition most runs were measured under

    @property
    def is_change(self) -> bool:
        """Whether it is compressed minus baseline."""
        return self.name != self.row

    def estimate(self, member: Member) -> Estimate | float | None:
        """The number of a run, with its interval; None where it is of another definition."""
        if self.key_of(member) != self.key:
            return None
        return member.change(self.row) if self.is_change else member.value(self.row)

    def key_of(self, member: Member) -> str:
        """Digest of the definition the number of a run was measured under."""
        return member.change_key(self.row) if self.is_change else member.key(self.row)

    def verdict(self, member: Member) -> str | None:
        """What the interval of a change says."""
        row = member.rows.get(self.row)
        return row.verdict or None if row and self.key_of(member) == self.key else None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One number over models whose runs differ only by seed or checkpoint."""

    models: int
    mean: float
    deviation: float  # sample standard deviation
    low: float  # the smallest, not an interval
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """Spread from model to model; None for fewer than two.

    Example:
        >>> spread([0.5, 1.0, 1.5])
        Spread(models=3, mean=1.0, deviation=0.5, low=0.5, high=1.5)
    """
    if len(values) < 2:
        return None
    return Spread(
        models=len(values),
        mean=fmean(values),
        deviation=stdev(values),
        low=min(values),
        high=max(values),
    )


def seed_groups(members: Sequence[Member]) -> dict[str, list[Member]]:
    """Signature -> runs that differ only by seed or checkpoint, one for each model."""
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        models = groups.setdefault(member.signature, {})
        models.setdefault(member.run.fingerprint, member)
    return {signature: list(models.values()) for signature, models in groups.items()}


def runs_view(members: Sequence[Member], columns: Sequence[str] | None = None) -> View:
    """One row a run.

    Args:
        members: All runs of a store.
        columns: Result names, or names without dataset and split: then one column for each
            dataset. `delta_<name>` is the change against the baseline. By default accuracy, its
            change and the cost, as far as they were measured.

    Raises:
        LookupError: Nothing of that name was measured.
    """
    chosen = _columns(members, columns)
    recipe = _differing(members)
    groups = seed_groups(members)
    rows = [_row(member, chosen, recipe, groups[member.signature]) for member in members]
    head = ["run_id", "model", "compressor", "baseline", *recipe, "seed"]
    numbers = [part for column in chosen for part in _parts(column)]
    ends = frozenset(
        f"{column.name}_{end}" for column in chosen for end in ("low", "high", "seed_sd")
    )
    sheet = Sheet(
        columns=[*head, *numbers, "models_of_seeds"],
        rows=rows,
        titles={
            part: part.replace(column.name, column.short, 1)
            for column in chosen
            for part in _parts(column)
        },
        units={column.name: _unit(members, column) for column in chosen},
        changes=frozenset(column.name for column in chosen if column.is_change),
        for_files=ends | {"baseline", "model", "models_of_seeds"},
    )
    spreads = list(_spreads(groups, chosen))
    sheets = [sheet, _spread_sheet(spreads)] if spreads else [sheet]
    notes = [SPREAD] if spreads else []
    return View(sheets=sheets, flat=sheet, notes=[*notes, *_unlike(members, chosen)])


def _unlike(members: Sequence[Member], chosen: Sequence[Column]) -> Iterator[str]:
    for column in chosen:
        keys = [key for member in members if (key := column.key_of(member))]
        if others := len(keys) - keys.count(column.key):
            yield unlike_note(column.name, others)


def _columns(members: Sequence[Member], wanted: Sequence[str] | None) -> list[Column]:
    found = {
        name: rows
        for name in (wanted or DEFAULT)
        for rows in [_rows_of(members, name)]
        if rows or wanted
    }
    for name, rows in found.items():
        if not rows:
            known = sorted({name for member in members for name in member.rows})
            raise LookupError(unknown("result", name, known))
    columns = [
        Column(name=full, row=row, short=name if len(pairs) == 1 else full)
        for name, pairs in found.items()
        for full, row in pairs
    ]
    return [
        replace(column, key=usual(column.key_of(member) for member in members))
        for column in columns
    ]


def _rows_of(members: Sequence[Member], wanted: str) -> list[tuple[str, str]]:
    """Result name and name of the row of everything a name stands for."""
    if found := named(members, wanted):
        return [(name, name) for name in found]
    plain = (
        wanted.removeprefix(DELTA) if wanted.startswith(DELTA) else without_marker(wanted, "delta")
    )
    if plain == wanted:
        return []
    pairs = [(name, _delta(name)) for name in named(members, plain)]
    return [
        (full, name)
        for name, full in pairs
        if any(member.change(name) is not None for member in members)
    ]


def _delta(name: str) -> str:
    """`digits_test_accuracy` -> `digits_test_delta_accuracy`."""
    split = next(split for split in SPLITS if f"_{split}_" in name)
    return name.replace(f"_{split}_", f"_{split}_{DELTA}", 1)


def _differing(members: Sequence[Member]) -> list[str]:
    """Parameters of recipes that are not the same for all compressed models."""
    compressed = [member for member in members if member.run.baseline is not None]
    names = dict.fromkeys(name for member in compressed for name in member.parameters)
    return [
        name
        for name in names
        if len({repr(member.parameters.get(name)) for member in compressed}) > 1
    ]


def _parts(column: Column) -> list[str]:
    verdict = ["verdict"] if column.is_change else []
    return [
        column.name,
        *(f"{column.name}_{part}" for part in ("low", "high", *verdict, "seed_sd")),
    ]


def _row(
    member: Member, chosen: Sequence[Column], recipe: Sequence[str], group: Sequence[Member]
) -> dict[str, Any]:
    run = member.run
    row: dict[str, Any] = {name: member.parameters.get(name) for name in recipe}
    row |= {"run_id": run.run_id, "model": run.model, "compressor": run.compressor}
    row |= {"baseline": run.baseline, "seed": run.seed, "models_of_seeds": len(group)}
    for column in chosen:
        value = column.estimate(member)
        row[column.name] = None if value is None else float(value)
        row[f"{column.name}_low"] = value.low if isinstance(value, Estimate) else None
        row[f"{column.name}_high"] = value.high if isinstance(value, Estimate) else None
        row[f"{column.name}_verdict"] = column.verdict(member) if column.is_change else None
        found = spread(_values(group, column))
        row[f"{column.name}_seed_sd"] = None if found is None else found.deviation
    return row


def _values(group: Sequence[Member], column: Column) -> list[float]:
    values = [column.estimate(member) for member in group]
    return [float(value) for value in values if value is not None]


def _unit(members: Sequence[Member], column: Column) -> str:
    rows: Iterator[Row] = (
        member.rows[column.row] for member in members if column.row in member.rows
    )
    return next((row.unit for row in rows if row.values), "")


def _spreads(
    groups: Mapping[str, Sequence[Member]], chosen: Sequence[Column]
) -> Iterator[dict[str, Any]]:
    for group in groups.values():
        for column in chosen:
            found = spread(_values(group, column))
            if found is not None:
                yield _spread_row(group[0].run, column, found, _unit(group, column))


def _spread_sheet(rows: Sequence[dict[str, Any]]) -> Sheet:
    columns = ["model", "compressor", "name", "models", "mean", "spread", "smallest", "largest"]
    return Sheet(columns=[*columns, "unit"], rows=rows, title="spread over seeds")


def _spread_row(run: Run, column: Column, found: Spread, unit: str) -> dict[str, Any]:
    """Numbers as text, in one scale for the row."""
    numbers = [found.mean, found.deviation, found.low, found.high]
    scale = scale_of(unit, numbers)
    show = scale.show_change if column.is_change else scale.show
    return {
        "model": run.model,
        "compressor": run.compressor,
        "name": column.name,
        "models": found.models,
        "mean": show(found.mean),
        "spread": scale.show(found.deviation),
        "smallest": show(found.low),
        "largest": show(found.high),
        "unit": scale.step if column.is_change else scale.unit,
    }
