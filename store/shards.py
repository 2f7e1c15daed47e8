"""Records that several ranks wrote in parts, merged into one without holding them in memory."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from core.errors import DataError
from store.disk import remove
from store.layout import Layout
from store.records import OURS, RecordWriter
from store.stored import TABLE, Part, StoredRecords, open_records
from store.table import GROUP_ROWS, as_columns, chunks

PARTS: tuple[Part, ...] = ("logits", "features")
NAMED = 5
"""Sample ids a message shows of each kind."""


def merge_shards(
    layout: Layout,
    key: str,
    shards: Sequence[Path],
    expected_ids: np.ndarray,
    *,
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """Merge shards by sample id into the records `key`, then delete them.

    Args:
        layout: The store.
        key: Key of the pass.
        shards: Folders that `RecordWriter(layout, key, shard=True).commit()` returned; the ids
            ascend within each.
        expected_ids: Every id that was to be recorded, once, int64 [n].
        manifest: What to remember; by default what the first shard remembers.

    Returns:
        Folder of the records.

    Raises:
        core.errors.DataError: A shard is damaged, or together they do not hold exactly the
            expected ids.
    """
    parts = [_Shard(path) for path in shards]
    order = _require_exactly(key, [part.ids for part in parts], expected_ids)
    if manifest is None:
        first = parts[0].records.manifest
        manifest = {name: value for name, value in first.items() if name not in OURS}
    with RecordWriter(layout, key) as writer:
        for start in range(0, len(order), GROUP_ROWS):
            last_id = order[min(start + GROUP_ROWS, len(order)) - 1]
            writer.append(**_in_order([part.until(last_id) for part in parts]))
        folder = writer.commit(manifest)
    for path in shards:
        remove(path)
    return folder


class _Shard:
    """Reads a shard from its first row to its last."""

    def __init__(self, path: Path) -> None:
        found = open_records(path, check=())
        if isinstance(found, str):
            raise DataError(f"shard {path} {found}; start the same command again")
        self.records: StoredRecords = found
        self.ids: np.ndarray = found.columns(["sample_id"])["sample_id"]
        if np.any(np.diff(self.ids) <= 0):
            raise DataError(f"expected ascending sample ids in shard {path}, without repetition")
        self._tables: Iterator[pa.Table] = chunks(path / TABLE)
        self._waiting = next(self._tables)
        self._row = 0
        self._arrays = {
            part: found.logits() if part == "logits" else found.features()
            for part in PARTS
            if found.has(part)
        }

    def until(self, last_id: int) -> dict[str, Any]:
        """The next rows up to and including `last_id`, as arguments of `RecordWriter.append`."""
        stop = int(np.searchsorted(self.ids, last_id, side="right"))
        count = stop - self._row
        while len(self._waiting) < count:
            self._waiting = pa.concat_tables([self._waiting, next(self._tables)])
        columns = as_columns(self._waiting.slice(0, count))
        self._waiting = self._waiting.slice(count)
        rows: dict[str, Any] = {"columns": columns}
        for part, array in self._arrays.items():
            rows[part] = array[self._row : stop]
        self._row = stop
        return rows


def _in_order(pieces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of several shards as one batch, sorted by sample id."""
    order = np.argsort(np.concatenate([piece["columns"]["sample_id"] for piece in pieces]))
    columns = {
        name: np.concatenate([piece["columns"][name] for piece in pieces])[order]
        for name in pieces[0]["columns"]
    }
    parts = pieces[0].keys() - {"columns"}
    arrays = {part: np.concatenate([piece[part] for piece in pieces])[order] for part in parts}
    return {"columns": columns, **arrays}


def _require_exactly(
    key: str, shard_ids: Sequence[np.ndarray], expected_ids: np.ndarray
) -> np.ndarray:
    """All ids ascending; raises where one is missing, repeated or strange."""
    held = np.sort(np.concatenate(shard_ids)) if shard_ids else np.array([], dtype=np.int64)
    expected = np.sort(np.asarray(expected_ids))
    if np.array_equal(held, expected):
        return held
    faults = {
        "missing": np.setdiff1d(expected, held),
        "repeated": np.unique(held[:-1][held[1:] == held[:-1]]),
        "not expected": np.setdiff1d(held, expected),
    }
    told = [f"{len(ids)} {kind} ({_some(ids)})" for kind, ids in faults.items() if len(ids)]
    raise DataError(
        f"the shards of records {key} do not hold each of the {len(expected)} expected samples "
        f"once: {', '.join(told)}; start the same command again"
    )


def _some(ids: np.ndarray) -> str:
    shown = ", ".join(str(value) for value in ids[:NAMED])
    return shown + (", ..." if len(ids) > NAMED else "")
