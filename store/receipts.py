"""Receipts: what a command line committed, so that the same line need not start a process to see.

A receipt is believed only while everything it names is as it was: each cell in the store, and each
file the configuration points to.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.digest import digest
from store.cells import read_cell
from store.disk import full_disk_told
from store.layout import Layout
from store.sealed import read_sealed, write_sealed

ASKED_FOR = "INTERPLAY_RECEIPT"
"""Environment variable: the key under which a process is asked to leave its receipt."""

CODE_ASKED_FOR = "INTERPLAY_RECEIPT_CODE"
"""Environment variable: digest of the code that this key speaks of."""


def write_receipt(
    layout: Layout, key: str, cells: Mapping[str, list[str]], settings: Mapping[str, Any]
) -> None:
    """Remember what lies in the store now; nothing where a cell cannot be read.

    Args:
        layout: The store.
        key: Digest of the command line and of the code that ran it.
        cells: Run id -> names of its cells, all committed.
        settings: Configuration; what each path in it leads to is kept: sizes and times of all
            files, or that there is none.
    """
    committed = {
        run_id: {name: cell.key for name in names if (cell := read_cell(layout, run_id, name))}
        for run_id, names in cells.items()
    }
    if not cells or any(len(committed[run_id]) != len(set(cells[run_id])) for run_id in cells):
        return
    paths = sorted({str(path.absolute()) for path in _paths(settings)})
    with full_disk_told(layout.root):
        write_sealed(
            layout.receipt_file(key),
            {"cells": committed, "files": {path: _state(Path(path)) for path in paths}},
        )


def is_committed(layout: Layout, key: str) -> bool:
    """Whether a command line has nothing left to do, as far as that can be seen without models."""
    receipt = read_sealed(layout.receipt_file(key))
    if receipt is None:
        return False
    if any(_state(Path(path)) != state for path, state in receipt["files"].items()):
        return False
    return bool(receipt["cells"]) and all(
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
