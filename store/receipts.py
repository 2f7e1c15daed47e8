"""Receipts: what a command line committed, so that the same line need not start a process to see.

A receipt is believed only while everything it names is as it was: each cell in the store, and each
file the configuration points to, as it was before the command read it.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.digest import digest
from core.origin import code_digest
from store.cells import read_cell
from store.disk import full_disk_told
from store.layout import Layout
from store.sealed import read_sealed, write_sealed

ASKED_FOR = "INTERPLAY_RECEIPT"
"""Environment variable: the key under which a process is asked to leave its receipt."""

CODE_ASKED_FOR = "INTERPLAY_RECEIPT_CODE"
"""Environment variable: digest of the code that this key speaks of."""
NOT_READ = ("results_dir", "wandb", "dataset_library")
"""Keys whose paths a command does not read, or not all of them."""

State = list[int] | str | None
"""Size and time of a file, a digest of a folder, None where there is nothing."""

log = logging.getLogger(__name__)


def states_before(settings: Mapping[str, Any]) -> dict[str, State]:
    """What each path in a configuration leads to, for the receipt of a command that begins.

    Nothing is looked at where no receipt is asked for.
    """
    return states(settings) if os.environ.get(ASKED_FOR) else {}


def states_before_files(config: Mapping[str, Any]) -> dict[str, State]:
    """The same for a command that gives files and no cells.

    Args:
        config: Whole and resolved, with `datasets` and `dataset_library`.
    """
    library = config["dataset_library"]
    read = {*(config["datasets"] or []), (config.get("tuning") or {}).get("dataset")}
    settings = {key: value for key, value in config.items() if key not in NOT_READ}
    return states_before({**settings, "read": [library[name] for name in read if name in library]})


def leave_receipt(
    layout: Layout,
    before: Mapping[str, State],
    *,
    cells: Mapping[str, list[str]] | None = None,
    made: Iterable[Path] = (),
) -> None:
    """Tell the sweep this process is a job of, if it is one, that all is done.

    Not where the code was edited since the sweep began: this process may have run either.

    Args:
        layout: The store.
        before: What `states_before` saw; it must stay as it is.
        cells: Run id -> names of its cells, all committed.
        made: Files and folders that came out.
    """
    key, wanted = os.environ.get(ASKED_FOR), os.environ.get(CODE_ASKED_FOR)
    if not key:
        return
    if wanted and code_digest() != wanted:
        log.info("the code was edited meanwhile: the same command starts this job again")
        return
    write_receipt(layout, key, cells or {}, before, made)


def leave_receipt_of_files(
    config: Mapping[str, Any], before: Mapping[str, State], made: Iterable[Path]
) -> None:
    """The same for a command that gives files and no cells.

    Args:
        config: With `results_dir`.
        before: What `states_before_files` saw.
        made: Files, and folders of files, that came out.
    """
    files = [file for path in made for file in (path.rglob("*") if path.is_dir() else [path])]
    made = [file for file in files if not file.is_dir()]
    leave_receipt(Layout(Path(config["results_dir"])), before, made=made)


def write_receipt(
    layout: Layout,
    key: str,
    cells: Mapping[str, list[str]],
    before: Mapping[str, State],
    made: Iterable[Path] = (),
) -> None:
    """Remember what lies in the store now; nothing where some of it cannot be read.

    Nothing either where a file is no longer what it was: who knows which of the two was read.

    Args:
        layout: The store.
        key: Digest of the command line and of the code that ran it.
        cells: Run id -> names of its cells, all committed.
        before: Path -> what it led to before the command began.
        made: Files and folders that came out.
    """
    committed = {
        run_id: {name: cell.key for name in names if (cell := read_cell(layout, run_id, name))}
        for run_id, names in cells.items()
    }
    results = {str(path.absolute()): _state(path) for path in made}
    if not cells and not results:
        return
    if None in results.values():
        return
    if any(len(committed[run_id]) != len(set(cells[run_id])) for run_id in cells):
        return
    read = {path: state for path, state in before.items() if path not in results}
    if changed := [path for path, state in read.items() if _state(Path(path)) != state]:
        log.info("%s has changed meanwhile: the same command starts this job again", changed[0])
        return
    with full_disk_told(layout.root):
        write_sealed(layout.receipt_file(key), {"cells": committed, "files": {**read, **results}})


def is_committed(layout: Layout, key: str) -> bool:
    """Whether a command line has nothing left to do, as far as that can be seen without models."""
    receipt = read_sealed(layout.receipt_file(key))
    if receipt is None:
        return False
    if any(_state(Path(path)) != state for path, state in receipt["files"].items()):
        return False
    return all(
        (cell := read_cell(layout, run_id, name)) is not None
        and cell.key == cell_key
        and cell.status != "failed"
        for run_id, cells in receipt["cells"].items()
        for name, cell_key in cells.items()
    )


def states(settings: Mapping[str, Any]) -> dict[str, State]:
    """What each path in a configuration leads to now."""
    paths = sorted({str(path.absolute()) for path in _paths(settings)})
    return {path: _state(Path(path)) for path in paths}


def _paths(value: Any) -> Iterator[Path]:
    """Every string that is the name of something on disk, or looks as if it could become one."""
    if isinstance(value, Mapping):
        for child in value.values():
            yield from _paths(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _paths(child)
    elif isinstance(value, str) and value and "\n" not in value and "://" not in value:
        path = Path(value).expanduser()
        if "/" in value or _state(path) is not None:
            yield path


def _state(path: Path) -> State:
    try:
        found = path.stat()
        return _tree(path) if path.is_dir() else [found.st_size, found.st_mtime_ns]
    except (OSError, ValueError):
        return None


@cache
def _tree(folder: Path) -> str:
    """Digest of names, sizes and times below a folder; looked at once in a process."""
    return digest(sorted(_entries(folder, "")))


def _entries(folder: Path, prefix: str) -> Iterator[list[Any]]:
    with os.scandir(folder) as found:
        for entry in found:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _entries(Path(entry.path), f"{name}/")
            else:
                seen = entry.stat()
                yield [name, seen.st_size, seen.st_mtime_ns, seen.st_ino]
