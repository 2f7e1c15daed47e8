"""Receipts: what a command line committed, so that the same line need not start a process to see.

A receipt is believed only while everything it names is as it was: each cell in the store, and each
file the configuration points to.
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

log = logging.getLogger(__name__)


def leave_receipt(
    layout: Layout,
    settings: Mapping[str, Any],
    *,
    cells: Mapping[str, list[str]] | None = None,
    made: Iterable[Path] = (),
) -> None:
    """Tell the sweep this process is a job of, if it is one, that all is done.

    Not where the code was edited since the sweep began: this process may have run either.

    Args:
        layout: The store.
        settings: Configuration; what each path in it leads to must stay as it is.
        cells: Run id -> names of its cells, all committed.
        made: Files and folders that came out.
    """
    key, wanted = os.environ.get(ASKED_FOR), os.environ.get(CODE_ASKED_FOR)
    if not key:
        return
    if wanted and code_digest() != wanted:
        log.info("the code was edited meanwhile: the same command starts this job again")
        return
    write_receipt(layout, key, cells or {}, settings, made)


def leave_receipt_of_files(config: Mapping[str, Any], made: Iterable[Path]) -> None:
    """The same for a command that gives files and no cells.

    Args:
        config: Whole and resolved, with `results_dir`, `datasets` and `dataset_library`.
        made: Files, and folders of files, that came out.
    """
    library = config["dataset_library"]
    read = {*config["datasets"], (config.get("tuning") or {}).get("dataset")}
    settings = {key: value for key, value in config.items() if key not in NOT_READ}
    settings["read"] = {name: library[name] for name in read if name in library}
    files = [file for path in made for file in (path.rglob("*") if path.is_dir() else [path])]
    leave_receipt(
        Layout(Path(config["results_dir"])), settings, made=[f for f in files if not f.is_dir()]
    )


def write_receipt(
    layout: Layout,
    key: str,
    cells: Mapping[str, list[str]],
    settings: Mapping[str, Any],
    made: Iterable[Path] = (),
) -> None:
    """Remember what lies in the store now; nothing where some of it cannot be read.

    Args:
        layout: The store.
        key: Digest of the command line and of the code that ran it.
        cells: Run id -> names of its cells, all committed.
        settings: Configuration; what each path in it leads to is kept: sizes and times of all
            files, or that there is none.
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
    paths = sorted({str(path.absolute()) for path in _paths(settings)})
    with full_disk_told(layout.root):
        write_sealed(
            layout.receipt_file(key),
            {
                "cells": committed,
                "files": {**{path: _state(Path(path)) for path in paths}, **results},
            },
        )


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


def _state(path: Path) -> list[int] | str | None:
    """What a name leads to: size and time of a file, a digest of them all for a folder."""
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
