"""Receipts: what a command line committed, so that the same line need not start a process to see.

A receipt is believed only while everything it names is as it was: each cell in the store, and each
file the configuration points to.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from store.cells import read_cell
from store.disk import full_disk_told
from store.layout import Layout
from store.sealed import read_sealed, write_sealed

ASKED_FOR = "INTERPLAY_RECEIPT"
"""Environment variable: the key under which a process is asked to leave its receipt."""


def write_receipt(
    layout: Layout, key: str, cells: Mapping[str, list[str]], settings: Mapping[str, Any]
) -> None:
    """Remember what lies in the store now.

    Args:
        layout: The store.
        key: Digest of the command line and of the code that ran it.
        cells: Run id -> names of its cells, all committed.
        settings: Configuration; of each path in it that exists, size and time are kept.
    """
    committed = {
        run_id: {name: cell.key for name in names if (cell := read_cell(layout, run_id, name))}
        for run_id, names in cells.items()
    }
    paths = sorted({str(path.resolve()) for path in _paths(settings)})
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
    return all(
        (cell := read_cell(layout, run_id, name)) is not None
        and cell.key == cell_key
        and cell.status != "failed"
        for run_id, cells in receipt["cells"].items()
        for name, cell_key in cells.items()
    )


def _paths(value: Any) -> Iterator[Path]:
    """Every string with a slash that is the name of something on disk."""
    if isinstance(value, Mapping):
        for child in value.values():
            yield from _paths(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _paths(child)
    elif isinstance(value, str) and "/" in value and "\n" not in value:
        path = Path(value).expanduser()
        if _state(path) is not None:
            yield path


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]
