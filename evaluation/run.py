"""An evaluation from configuration to committed cells."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from evaluation.cells import measured_cell
from evaluation.plan import Plan, make_plan
from evaluation.provenance import now, provenance
from evaluation.subjects import scientific, subjects_of
from evaluation.validate import validate
from recording.loop import threads_set
from recording.recorder import Recorder
from store.cells import Cell, read_cell, write_cell
from store.disk import full_disk_told, is_of_the_disk
from store.layout import Layout
from store.receipts import leave_receipt, states_before
from store.runs import add_attempt, read_run, write_run

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an evaluation did."""

    layout: Layout
    run_ids: list[str]  # baseline first, the model in question last
    cells: list[tuple[str, Cell]]  # run id and cell of what was measured now
    committed_before: int
    passes: int
    necessary: int  # passes whose records the cells read and the store did not hold
    images: int  # given to measurements that look inside a model

    @property
    def run_id(self) -> str:
        """The run of the model in question."""
        return self.run_ids[-1]

    @property
    def measured(self) -> int:
        """Number of cells that have new values."""
        return sum(cell.status == "done" for _, cell in self.cells)

    @property
    def failed(self) -> list[tuple[str, Cell]]:
        """Run id and cell of what could not be measured."""
        return [(run_id, cell) for run_id, cell in self.cells if cell.status == "failed"]

    @property
    def changed_runs(self) -> list[str]:
        """Runs that have something new to show, baseline first."""
        changed = {run_id for run_id, cell in self.cells if cell.status != "not_applicable"}
        return [run_id for run_id in self.run_ids if run_id in changed]

    @property
    def exit_code(self) -> int:
        """0, or 1 where a cell failed."""
        return 1 if self.failed else 0

    def summary(self) -> str:
        """Last lines of an evaluation: what was done, and what failed."""
        looked_into = f", {self.images} images looked into" if self.images else ""
        lines = [
            f"{self.measured} cells measured, {self.committed_before} were committed before, "
            f"{self.passes} forward passes over a dataset ({self.necessary} necessary)"
            f"{looked_into}; results in {self.layout.root}"
        ]
        lines += [
            f"FAILED {run_id} {cell.measurement}: {cell.reason}" for run_id, cell in self.failed
        ]
        return "\n".join(lines)


def run(config: DictConfig) -> Outcome:
    """Validate, plan, build, record what is missing, measure, commit.

    Killed anywhere and started again with the same command, it goes on from the committed cells.
    """
    validate(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)  # random weights, if any
    recorder = Recorder.from_config(config)
    with threads_set(config.threads), full_disk_told(recorder.layout.root):
        return _run(config, recorder)


def _run(config: DictConfig, recorder: Recorder) -> Outcome:
    before = states_before(scientific(config, is_baseline=False))  # of the baseline too
    subjects = subjects_of(config, recorder)
    plan = make_plan(subjects, config, recorder)
    attempt = {
        "id": uuid4().hex,
        "started": now(),
        "pid": os.getpid(),
        "provenance": provenance(),
    }
    for subject in subjects:
        if read_run(recorder.layout, subject.run.run_id) is None:
            write_run(recorder.layout, subject.run)
        add_attempt(recorder.layout, subject.run.run_id, attempt)
    _record(plan, recorder)
    cells = list(_measure(plan, recorder.layout))
    for subject in subjects:
        add_attempt(recorder.layout, subject.run.run_id, {**attempt, "ended": now()})
    outcome = Outcome(
        layout=recorder.layout,
        run_ids=[subject.run.run_id for subject in subjects],
        cells=cells,
        committed_before=sum(cell.state == "committed" for cell in plan.cells),
        passes=recorder.passes,
        necessary=len({planned.key for planned in plan.passes if not planned.stored}),
        images=recorder.images_given,
    )
    if not outcome.failed:
        leave_receipt(
            recorder.layout,
            before,
            cells={
                run_id: [cell.name for cell in plan.cells if cell.run_id == run_id]
                for run_id in outcome.run_ids
            },
        )
    return outcome


def dry_run(config: DictConfig) -> Plan:
    """What `run` would do; looks at the store, writes nothing, runs no model."""
    validate(config, writes=False)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    recorder = Recorder.from_config(config)
    return make_plan(subjects_of(config, recorder, dry=True), config, recorder)


def _record(plan: Plan, recorder: Recorder) -> None:
    """Make the records the cells will read, once for all of them.

    A model that raises has its error kept by the recorder; the cells that read it fail with it.
    """
    for planned in plan.passes:
        request = planned.request
        try:
            recorder.records(
                planned.model,
                request.datamodule,
                request.split,
                request.view,
                needs=request.parts,
                samples=request.samples,
                classes_of=request.classes_of,
            )
        except Exception as error:
            if is_of_the_disk(error):
                raise
            log.warning("%s: no records of %s: %s", planned.run_id, request.datamodule, error)


def _measure(plan: Plan, layout: Layout) -> Iterator[tuple[str, Cell]]:
    """Measure what is not committed, and commit each cell at once."""
    todo = [cell for cell in plan.cells if cell.state != "committed"]
    owners = {
        (cell.run_id, key): cell.name
        for cell in plan.cells
        if cell.state == "committed"
        for key in _committed_keys(layout, cell.run_id, cell.name)
    }
    console = Console(stderr=True)
    for planned in track(
        todo, "measuring", console=console, transient=True, disable=not console.is_terminal
    ):
        place = planned.run_id, planned.name
        taken = {key: name for (run_id, key), name in owners.items() if run_id == planned.run_id}
        cell = measured_cell(planned.name, planned.key, planned.measurement, taken)
        if cell.status == "not_applicable" and _committed_keys(layout, *place):
            log.warning("%s %s: its earlier result stays; now: %s", *place, cell.reason)
            continue
        owners |= {(planned.run_id, key): planned.name for key in cell.values}
        write_cell(layout, planned.run_id, cell)
        yield planned.run_id, cell


def _committed_keys(layout: Layout, run_id: str, name: str) -> list[str]:
    cell = read_cell(layout, run_id, name)
    return [] if cell is None else list(cell.values)
