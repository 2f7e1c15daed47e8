"""A run beside its baseline: which numbers belong together, and what their difference says."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from core.errors import unknown
from core.estimate import Estimate
from core.names import SPLITS
from store.cells import Cell, list_cells
from store.layout import Layout
from store.runs import Run, read_run, run_ids

T = TypeVar("T")

Verdict = Literal["better", "worse", "unresolved", "no difference", ""]

NOT_APPLICABLE = "n/a"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured name of both models.

    A side without a number says why: `failed`, `n/a`, or nothing where it was never measured.
    """

    name: str
    kind: str = ""  # of the measurement: property, benefit or paired
    baseline: Estimate | str = ""
    compressed: Estimate | str = ""
    difference: Estimate | None = None  # compressed minus baseline, on the same samples
    key: str = ""  # digest of the definition the numbers were measured under
    difference_key: str = ""  # the same of a paired difference

    @property
    def values(self) -> list[Estimate]:
        """The numbers of both sides."""
        return [side for side in (self.baseline, self.compressed) if isinstance(side, Estimate)]

    @property
    def unit(self) -> str:
        """As stored; empty for a row without a number."""
        return self.values[-1].unit if self.values else ""

    @property
    def better(self) -> str:
        """Which direction is an improvement, as far as a side says."""
        return next((value.better for value in reversed(self.values) if value.better), "")

    @property
    def ratio(self) -> float | None:
        """Compressed over baseline, of what is counted or timed rather than estimated."""
        if self.difference is not None or len(self.values) < 2 or self.unit == "fraction":
            return None
        before, now = self.values
        return now / before if before > 0 else None

    @property
    def change(self) -> float | None:
        """Compressed minus baseline: paired where it was measured so, else of the two numbers."""
        if self.difference is not None or len(self.values) < 2:
            return self.difference
        before, now = self.values
        return now - before

    @property
    def change_key(self) -> str:
        """Digest of the definition the change was measured under."""
        return self.key if self.difference is None else self.difference_key

    @property
    def n(self) -> int | None:
        """Samples behind the difference, else behind the number."""
        if self.difference is not None:
            return self.difference.n
        return self.values[-1].n if self.values else None

    @property
    def verdict(self) -> Verdict:
        """What the interval of the difference says, where one direction is an improvement."""
        change = self.difference
        if change is None or change.low is None or change.high is None or not self.better:
            return ""
        if change.low == change.high == 0:
            return "no difference"
        if change.low <= 0 <= change.high:
            return "unresolved"
        return "better" if (change.low > 0) == (self.better == "higher") else "worse"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that is shown of a run.

    Args:
        run: The run.
        baseline: Its baseline's run id, None where it stands alone.
        rows: Numbers both models have, then what failed or does not apply.
        paired: Numbers of the pair, such as flips; all numbers where there is no baseline.
        notes: Why numbers are missing, one sentence each.
    """

    run: Run
    baseline: str | None
    rows: list[Row] = field(default_factory=list)
    paired: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    layout: Layout, run_id: str, *, measurements: Collection[str] | None = None
) -> Comparison:
    """Put the cells of a run beside those of its baseline.

    Args:
        layout: The store.
        run_id: Of the model in question.
        measurements: Library entries to show; None for all that were ever measured.

    Differences are values named `<datamodule>_<split>_delta_<measured>`. A baseline's number that
    the run itself holds, `<datamodule>_<split>_baseline_<measured>`, was taken in the same session
    and goes before that of the baseline's own run.

    Raises:
        LookupError: There is no such run; the text names the nearest.
    """
    run = read_run(layout, run_id)
    if run is None:
        raise LookupError(f"{unknown('run', run_id, run_ids(layout))}, in {layout.root}")
    now = _chosen(_by_name(list_cells(layout, run_id), run), measurements)
    found = _by_name(list_cells(layout, run.baseline), run) if run.baseline else {}
    before = _chosen(found, measurements)
    unlike = [name for name in before if name in now and before[name].key != now[name].key]
    before = {name: cell for name, cell in before.items() if name not in unlike}
    pairing = _Pairing(now, before)
    rows = [row for name in dict.fromkeys([*now, *before]) for row in pairing.rows(name)]
    return Comparison(
        run=run,
        baseline=run.baseline,
        rows=[row for row in rows if not pairing.is_alone(row)],
        paired=[row for row in rows if pairing.is_alone(row)],
        notes=[*_unlike_notes(unlike), *_notes(now, before)],
    )


class _Pairing:
    """Finds for each number of a run its counterpart and their difference."""

    def __init__(self, now: Mapping[str, Cell], before: Mapping[str, Cell]) -> None:
        self._now, self._before = now, before
        values = _values(now.values())
        self._differences = _renamed(values, "delta")
        keys = {name: cell.key for cell in now.values() for name in cell.values}
        self._difference_keys = _renamed(keys, "delta")
        self._same_session = _renamed(values, "baseline")
        known = values.keys() | _values(before.values()).keys()
        self._shown_elsewhere = {
            name
            for name in values
            for marker in ("delta", "baseline")
            if without_marker(name, marker) in known - {name}
        }

    def rows(self, measurement: str) -> Iterator[Row]:
        """Rows of one measurement: a number each, or one that says why there is none."""
        now, before = self._now.get(measurement), self._before.get(measurement)
        names = [*(now.values if now else ()), *(before.values if before else ())]
        kind, key = next(((cell.kind, cell.key) for cell in (now, before) if cell), ("", ""))
        if not names:
            yield Row(name=measurement, kind=kind, baseline=_state(before), compressed=_state(now))
        for name in dict.fromkeys(names):
            if name not in self._shown_elsewhere:
                same_session = self._same_session.get(name)
                yield Row(
                    name=name,
                    kind=kind,
                    baseline=_side(before, name) if same_session is None else same_session,
                    compressed=_side(now, name),
                    difference=self._differences.get(name),
                    key=key,
                    difference_key=self._difference_keys.get(name, ""),
                )

    def is_alone(self, row: Row) -> bool:
        """Whether a number belongs to the pair as a whole, or to a run without a baseline."""
        return isinstance(row.compressed, Estimate) and row.baseline in ("", NOT_APPLICABLE)


def _by_name(cells: Iterable[Cell], run: Run) -> dict[str, Cell]:
    """Cells in the order in which the evaluation asks for them, others behind."""
    asked = run.config.get("measurements") or []
    place = {name: position for position, name in enumerate(asked)}
    ordered = sorted(cells, key=lambda cell: place.get(cell.measurement, len(place)))
    return {cell.measurement: cell for cell in ordered}


def _values(cells: Iterable[Cell]) -> dict[str, Estimate]:
    return {
        name: value
        for cell in cells
        for name, value in cell.values.items()
        if isinstance(value, Estimate)
    }


def _renamed(values: Mapping[str, T], marker: str) -> dict[str, T]:
    """Values whose name holds the marker, under the name without it."""
    renamed = ((name, without_marker(name, marker), value) for name, value in values.items())
    return {plain: value for name, plain, value in renamed if plain != name}


def without_marker(name: str, marker: str) -> str:
    """`digits_test_delta_accuracy` -> `digits_test_accuracy`, and any other name as it is."""
    for split in SPLITS:
        name = name.replace(f"_{split}_{marker}_", f"_{split}_", 1)
    return name


def _side(cell: Cell | None, name: str) -> Estimate | str:
    value = cell.values.get(name) if cell else None
    return value if isinstance(value, Estimate) else _state(cell)


def _state(cell: Cell | None) -> str:
    if cell is None or cell.status == "done":
        return ""
    return "failed" if cell.status == "failed" else NOT_APPLICABLE


def _chosen(cells: dict[str, Cell], names: Collection[str] | None) -> dict[str, Cell]:
    """Cells of some library entries; `delta.accuracy` is a cell of the entry `delta`."""
    if names is None:
        return cells
    return {name: cell for name, cell in cells.items() if name.partition(".")[0] in names}


def _unlike_notes(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [
        f"{', '.join(names)}: the baseline was measured under another definition, on other data or "
        "on another machine; the same command again measures it alike"
    ]


def _notes(now: Mapping[str, Cell], before: Mapping[str, Cell]) -> Iterator[str]:
    """Why numbers are missing; a measurement of pairs is not missed in the baseline."""
    missing: dict[tuple[str, str], list[str]] = {}
    for side, cells in (("", now), (" of the baseline", before)):
        for name, cell in cells.items():
            paired = side and cell.status == "not_applicable" and name in now
            if cell.status != "done" and not paired:
                kind = "failed" if cell.status == "failed" else "not applicable"
                missing.setdefault((f"{kind}{side}", cell.reason), []).append(name)
    for (kind, reason), names in missing.items():
        yield f"{kind}: {', '.join(names)}: {reason}"
