"""Runs: one model evaluated under one configuration."""

import os
import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from core.digest import digest
from core.names import slug
from store.disk import full_disk_told, remove_leftovers
from store.layout import CORRUPT, Layout
from store.quarantine import CorruptFileWarning
from store.sealed import read_folder, read_sealed, write_sealed


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was evaluated, where it comes from, and every time it was started.

    Args:
        run_id: `<model>-<compressor>-<digest>`.
        model: Name of the model's configuration.
        compressor: Name of the recipe, `none` for a baseline.
        baseline: Run id of the baseline, None where the model has none.
        fingerprint: Content address of the model.
        seed: Seed of everything random.
        passes: Dataset -> key of the records of its test split as it is.
        config: The resolved configuration. JSON.
        lineage: `base_id` and `operation {name, parameters}`. JSON.
        provenance: Versions, git hash, device, threads, CPU flags. JSON.
        attempts: One JSON dict a start, oldest first where they hold `started`. Two with the
            same `id` are one attempt, of which the later form counts.
    """

    run_id: str
    model: str
    compressor: str
    baseline: str | None
    fingerprint: str
    seed: int
    passes: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)


def write_run(layout: Layout, run: Run) -> None:
    """Write a run, atomically; attempts that other processes have added are kept.

    Every attempt is a file of its own, so that two processes that add one lose neither; the list
    inside `run.json` repeats them for human readers.

    Raises:
        OSError: The disk is full; nothing is half-written.
        ValueError: NaN or infinity in the configuration; the text names the key.
    """
    folder = layout.attempts(run.run_id)
    with full_disk_told(layout.root):
        remove_leftovers(layout.run(run.run_id))
        remove_leftovers(folder)
        for attempt in run.attempts:
            write_sealed(folder / f"{_attempt_name(attempt)}.json", attempt)
        merged = replace(run, attempts=_all_attempts(layout, run))
        write_sealed(layout.run_file(run.run_id), asdict(merged))


def add_attempt(layout: Layout, run_id: str, attempt: dict[str, Any]) -> Run:
    """Add one attempt, or the later form of one with the same `id`; returns the run with it.

    Raises:
        LookupError: There is no such run.
    """
    run = read_run(layout, run_id)
    if run is None:
        raise LookupError(f"there is no run {run_id!r} in {layout.root} to add an attempt to")
    kept = [old for old in run.attempts if _attempt_name(old) != _attempt_name(attempt)]
    run = replace(run, attempts=[*kept, attempt])
    write_run(layout, run)
    return run


def read_run(layout: Layout, run_id: str) -> Run | None:
    """A run, or None where there is none; a damaged one is moved aside and then absent."""
    path = layout.run_file(run_id)
    stored = read_sealed(path)
    if stored is None:
        return None
    if stored["run_id"] != run_id:
        warn_of_copy(path, stored["run_id"])
        return None
    known = {key.name for key in fields(Run)}
    run = Run(**{key: value for key, value in stored.items() if key in known})
    return replace(run, attempts=_all_attempts(layout, run))


def warn_of_copy(path: Path, run_id: str) -> None:
    """Say that the file of a run is of another one than its folder."""
    warnings.warn(
        f"{path} is of run {run_id!r}: its folder was renamed or copied, so it is ignored",
        CorruptFileWarning,
        stacklevel=3,
    )


def list_runs(layout: Layout) -> list[Run]:
    """Every run of the store, in the order of their ids."""
    runs = (read_run(layout, name) for name in run_ids(layout))
    return [run for run in runs if run is not None]


def run_ids(layout: Layout) -> list[str]:
    """Names of the run folders, sorted; a folder may still be without its `run.json`."""
    try:
        with os.scandir(layout.runs) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith(".") and CORRUPT not in name)


def _all_attempts(layout: Layout, run: Run) -> list[dict[str, Any]]:
    by_name = {_attempt_name(attempt): attempt for attempt in run.attempts}
    by_name.update(read_folder(layout.attempts(run.run_id)))
    return sorted(by_name.values(), key=lambda attempt: str(attempt.get("started", "")))


def _attempt_name(attempt: dict[str, Any]) -> str:
    return slug(str(attempt["id"])) if "id" in attempt else digest(attempt)
