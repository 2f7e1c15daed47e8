"""Cells: what one measurement of one run gave; the smallest thing that is committed."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

from core.estimate import Estimate
from store.disk import full_disk_told, remove_leftovers
from store.layout import Layout
from store.sealed import read_folder, read_sealed, write_sealed

Status = Literal["done", "failed", "not_applicable"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run x one measurement.

    Args:
        measurement: Name of the library entry.
        key: Digest of the measurement's definition and of everything it read.
        status: `not_applicable` is no failure: the question has no meaning for this model.
        values: Result key -> value; empty unless done.
        kind: `property`, `benefit` or `paired`; empty in what an earlier version wrote.
        version: Of the measurement's definition.
        seconds: Wall-clock time of the measurement.
        reason: One sentence for the table, where the status is not `done`.
        error: Traceback of a failure.
    """

    measurement: str
    key: str
    status: Status
    values: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""
    version: int = 1
    seconds: float = 0.0
    reason: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(
                f"the status of a cell is one of {', '.join(get_args(Status))}, got {self.status!r}"
            )
        if (self.status == "done") != bool(self.values):
            raise ValueError(
                f"cell {self.measurement!r} is {self.status} with {len(self.values)} values; "
                "a cell that is done has some, any other has none"
            )
        if self.status != "done" and not (self.reason or self.error):
            raise ValueError(f"cell {self.measurement!r} is {self.status} and does not say why")


def write_cell(layout: Layout, run_id: str, cell: Cell) -> None:
    """Commit a cell, atomically; of several writers the last one wins, whole.

    Raises:
        OSError: The disk is full; nothing is half-written.
        ValueError: A value or an end of its interval is NaN or infinite; the text names the key.
        TypeError: A value is no number; the text names the key.
    """
    stored = {
        "measurement": cell.measurement,
        "key": cell.key,
        "status": cell.status,
        "kind": cell.kind,
        "version": cell.version,
        "seconds": cell.seconds,
        "reason": cell.reason,
        "error": cell.error,
        "values": {name: _stored(name, value) for name, value in cell.values.items()},
    }
    path = layout.cell_file(run_id, cell.measurement)
    with full_disk_told(layout.root):
        remove_leftovers(path.parent)
        write_sealed(path, stored)


def read_cell(layout: Layout, run_id: str, name: str) -> Cell | None:
    """A cell, or None where there is none; a damaged one is moved aside and then absent."""
    stored = read_sealed(layout.cell_file(run_id, name))
    return None if stored is None else _cell(stored)


def list_cells(layout: Layout, run_id: str) -> list[Cell]:
    """Every cell of a run, in the order of their names."""
    return [_cell(stored) for _, stored in read_folder(layout.cells(run_id))]


def _stored(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"result {name!r} is a {type(value).__name__}, expected a float")
    estimate = value if isinstance(value, Estimate) else Estimate(float(value))
    for what, number in (("", estimate), (".low", estimate.low), (".high", estimate.high)):
        if number is not None and not math.isfinite(number):
            raise ValueError(
                f"result '{name}{what}' is {float(number)}, expected a finite number; "
                "a measurement that cannot compute raises an error or NotApplicable"
            )
    return {"value": float(estimate), **_plain(estimate.fields())}


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as JSON numbers, whatever kind of number a measurement has put there."""
    ends = {end: None if fields[end] is None else float(fields[end]) for end in ("low", "high")}
    n = None if fields["n"] is None else int(fields["n"])
    return {"n": n, **ends, **{key: fields[key] for key in ("unit", "better", "view")}}


def _cell(stored: dict[str, Any]) -> Cell:
    values = {name: _estimate(value) for name, value in stored["values"].items()}
    return Cell(**{**_of(stored, Cell.__dataclass_fields__), "values": values})


def _estimate(stored: dict[str, Any]) -> Estimate:
    return Estimate(stored["value"], **_of(stored, Estimate.__slots__))


def _of(stored: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Drop what a later version may have added."""
    return {name: value for name, value in stored.items() if name in names}
