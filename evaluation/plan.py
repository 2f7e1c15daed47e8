"""What an evaluation is going to do: the union of the passes, and the cells."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from omegaconf import DictConfig
from rich.table import Column, Table

from evaluation.cells import cell_key, obstacle
from evaluation.library import build_measurements
from evaluation.subjects import Subject
from measurements.measurement import Measurement, PairedMeasurement, Request
from models.base_model import ClassifierModule
from recording.recorder import Recorder
from store.cells import read_cell

State = Literal["committed", "to measure", "not applicable"]


@dataclass(frozen=True, kw_only=True)
class PlannedPass:
    """Records the cells will read."""

    model: ClassifierModule
    run_id: str
    request: Request
    key: str  # of the records
    samples: int
    stored: bool

    def joined(self, other: "PlannedPass") -> "PlannedPass":
        """One pass that keeps what either needs."""
        parts = self.request.parts | other.request.parts
        return replace(
            self, request=replace(self.request, parts=parts), stored=self.stored and other.stored
        )


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One measurement of one run."""

    run_id: str
    name: str
    measurement: Measurement
    key: str
    state: State
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Passes and cells of an evaluation, in the order they are done."""

    passes: list[PlannedPass]
    cells: list[PlannedCell]


def make_plan(subjects: list[Subject], config: DictConfig, recorder: Recorder) -> Plan:
    """Ask every measurement what it needs, and the store what is there."""
    cells = [cell for subject in subjects for cell in _cells(subject, config, recorder)]
    wanted: dict[tuple[int, str], PlannedPass] = {}
    for cell in cells:
        if cell.state != "to measure":
            continue
        for planned in _passes(cell, subjects, recorder):
            where = (id(planned.model), planned.key)
            known = wanted.get(where)
            wanted[where] = planned if known is None else known.joined(planned)
    return Plan(passes=list(wanted.values()), cells=cells)


def _cells(subject: Subject, config: DictConfig, recorder: Recorder) -> Iterator[PlannedCell]:
    for name in config.measurements:
        for cell, entry, measurement in build_measurements(name, subject.model, config, recorder):
            key = cell_key(measurement, entry)
            state, reason = _state(subject, cell, measurement, key, recorder)
            yield PlannedCell(
                run_id=subject.run.run_id,
                name=cell,
                measurement=measurement,
                key=key,
                state=state,
                reason=reason,
            )


def _state(
    subject: Subject, name: str, measurement: Measurement, key: str, recorder: Recorder
) -> tuple[State, str]:
    reason = obstacle(measurement)
    if reason:
        return "not applicable", reason
    found = read_cell(recorder.layout, subject.run.run_id, name) if subject.made else None
    if found is not None and found.key == key and found.status != "failed":
        return "committed", ""
    return "to measure", ""


def _passes(
    cell: PlannedCell, subjects: list[Subject], recorder: Recorder
) -> Iterator[PlannedPass]:
    by_model = {id(subject.model): subject for subject in subjects}
    models = [cell.measurement.model]
    if isinstance(cell.measurement, PairedMeasurement) and models[0].baseline is not None:
        models.insert(0, models[0].baseline)
    for model in models:
        subject = by_model[id(model)]
        for request in cell.measurement.requests():
            name, split = request.datamodule, request.split
            wanted = recorder.describe(
                model,
                name,
                split,
                request.view,
                samples=request.samples,
                classes_of=request.classes_of,
            )
            stored = subject.made and recorder.stored(wanted, request.parts) is not None
            yield PlannedPass(
                model=model,
                run_id=subject.run.run_id,
                request=request,
                key=wanted.key,
                samples=recorder.samples(model, name, split, request.samples),
                stored=stored,
            )


def plan_tables(plan: Plan) -> list[Table]:
    """Passes and cells as two tables for `dry_run=true`."""
    run = Column("run", overflow="fold")
    passes = Table(run, "dataset", "split", "view", "samples", "state", title="passes")
    for each in plan.passes:
        request = each.request
        passes.add_row(
            each.run_id,
            request.datamodule,
            request.split,
            request.view,
            str(each.samples),
            "cached" if each.stored else "to record",
        )
    alike: dict[tuple[str, str], list[str]] = {}
    for cell in plan.cells:
        state = f"{cell.state}: {cell.reason}" if cell.reason else cell.state
        alike.setdefault((cell.run_id, state), []).append(cell.name)
    run, why = Column("run", overflow="fold", max_width=20), Column("state", max_width=18)
    cells = Table(run, why, "measurements", title="cells", show_lines=True)
    for (run_id, state), names in alike.items():
        cells.add_row(run_id, state, ", ".join(names))
    return [passes, cells]
