"""Records on disk: the rows of one pass of a model over a view, written as they come."""

import errno
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np

from core.digest import file_digest
from core.files import private_name
from store.disk import full_disk_told, remove, remove_leftovers, sync_folder
from store.layout import CORRUPT, Layout
from store.npy import NpyWriter
from store.quarantine import move_aside
from store.sealed import write_sealed
from store.stored import MANIFEST, TABLE, Part, StoredRecords, open_records, read_manifest
from store.table import TableWriter

__all__ = ["RecordWriter", "StoredRecords", "find_records", "list_records"]

OURS = {"key", "rows", "files"}
"""What the store itself writes into a manifest."""

RACES = 100
"""How often another writer may come between before we give up."""

ABANDONED_S = 30 * 24 * 3600
"""Age of rows that nobody will finish or merge: they wait for the slowest rank of their job, and a
cluster's limit of a job's time is rarely longer than a month."""

TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
"""How file systems refuse to rename a folder onto one that is there."""


def find_records(layout: Layout, key: str, *, needs: Collection[Part] = ()) -> StoredRecords | None:
    """Finished records of a pass, or None.

    Sizes and the table's digest are checked now; the digest of logits and features now where they
    are needed, else when they are first read. An unfinished or damaged folder is named in a
    warning, moved aside, and then there is none.

    Args:
        layout: The store.
        key: Key of the pass.
        needs: Parts without which the records are of no use.
    """
    folder = layout.record(key)
    try:
        inode = folder.stat().st_ino
    except FileNotFoundError:
        return None
    found = open_records(folder, check=needs)
    if isinstance(found, str):
        move_aside(folder, found, inode=inode)
        return None
    return found if all(found.has(part) for part in needs) else None


def list_records(layout: Layout) -> list[dict[str, Any]]:
    """Manifests of all finished records, in the order of their keys; reads no row."""
    folders = sorted(layout.records.glob("[!.]*")) if layout.records.is_dir() else []
    found = (read_manifest(path) for path in folders if path.is_dir() and CORRUPT not in path.name)
    return [manifest for manifest in found if not isinstance(manifest, str)]


class RecordWriter:
    """Write the records of a pass; they exist for others only after `commit()`.

    Rows go to a private folder that is renamed at the end. As a context manager it discards what
    was not committed.

    Args:
        layout: The store.
        key: Key of the pass.
        shard: Write a part of the pass, for `store.shards.merge_shards`.
    """

    def __init__(self, layout: Layout, key: str, *, shard: bool = False) -> None:
        self.layout, self.key, self.shard = layout, key, shard
        self.rows = 0
        layout.record(key)  # a name that is none is refused before anything is written
        self._folder = private_name(layout.records / f"{key}.{uuid4().hex[:8]}")
        self._table: TableWriter | None = None
        self._parts: dict[str, NpyWriter] = {}
        with full_disk_told(layout.root):
            layout.records.mkdir(parents=True, exist_ok=True)
            remove_leftovers(layout.records)
            _remove_abandoned(layout.records)
            self._folder.mkdir()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def append(
        self,
        columns: Mapping[str, np.ndarray],
        logits: np.ndarray | None = None,
        features: np.ndarray | None = None,
    ) -> None:
        """Write the rows of one batch behind the others.

        Args:
            columns: Arrays [B] or [B, k] by name; `sample_id` int64 among them.
            logits: Logits minus the row's largest, float16 [B, C]; always or never.
            features: Penultimate features [B, D]; always or never.

        Raises:
            OSError: The disk is full; nothing is left behind.
            ValueError: Shapes, dtypes or columns differ from those of the first batch.
        """
        given = {"logits": logits, "features": features}
        parts = {name: array for name, array in given.items() if array is not None}
        with self._all_or_nothing():
            count = _batch_size(columns, parts)
            if self._table is None:
                self._open(parts)
            assert self._table is not None, "opened above"
            if set(parts) != set(self._parts):
                raise ValueError(
                    f"the first rows came with {sorted(self._parts) or 'columns alone'}, "
                    f"these with {sorted(parts) or 'columns alone'}"
                )
            self._table.append(columns)
            for name, array in parts.items():
                self._parts[name].append(array)
            self.rows += count

    def commit(self, manifest: Mapping[str, Any]) -> Path:
        """Finish the files and give them their name; returns the folder.

        Where another writer has committed the same key meanwhile, its result is kept and this
        one discarded, unless this one holds logits or features which that one lacks.

        Args:
            manifest: What the recorder wants remembered, JSON.

        Raises:
            OSError: The disk is full; nothing is left behind.
            ValueError: No row was appended.
        """
        with self._all_or_nothing():
            if self._table is None:
                raise ValueError(f"no row was appended to records {self.key}")
            if reserved := OURS & set(manifest):
                raise ValueError(f"the store itself writes {sorted(reserved)} into a manifest")
            self._table.close()
            for part in self._parts.values():
                part.close()
            files = {path.name: _described(path) for path in sorted(self._folder.iterdir())}
            ours = {"key": self.key, "rows": self.rows, "files": files}
            write_sealed(self._folder / MANIFEST, {**manifest, **ours})
            sync_folder(self._folder)
            target = self._publish(set(files))
            sync_folder(self.layout.records)
            return target

    def discard(self) -> None:
        """Delete what was not committed; harmless after a commit."""
        for part in (self._table, *self._parts.values()):
            if part is not None:
                part.abandon()
        remove(self._folder)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            with full_disk_told(self.layout.root):
                yield
        except BaseException:
            self.discard()
            raise

    def _open(self, parts: Mapping[str, np.ndarray]) -> None:
        self._table = TableWriter(self._folder / TABLE)
        for name, array in parts.items():
            self._parts[name] = NpyWriter(
                self._folder / f"{name}.npy", dtype=array.dtype, width=array.shape[1]
            )

    def _publish(self, files: set[str]) -> Path:
        if self.shard:
            return self._folder.rename(self._folder.with_suffix(".shard"))
        remove_leftovers(self.layout.records, name=self.key, suffix="shard")
        target = self.layout.record(self.key)
        for _ in range(RACES):
            if _renamed(self._folder, target):
                return target
            theirs = find_records(self.layout, self.key)  # moves a damaged one aside
            if theirs is not None and files <= set(theirs.manifest["files"]):
                self.discard()
                return target
            if theirs is not None:
                _retire(target)
        raise FileExistsError(errno.EEXIST, "cannot be replaced: move it away", str(target))


def _remove_abandoned(records: Path) -> None:
    """Delete what killed processes of any host have left, by its age: theirs cannot be asked."""
    for folder in (*records.glob(".*.shard"), *records.glob(".*.partial")):
        with suppress(FileNotFoundError):  # another writer was faster
            if time.time() - folder.stat().st_mtime > ABANDONED_S:
                remove(folder)


def _renamed(folder: Path, target: Path) -> bool:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        return False
    return True


def _retire(target: Path) -> None:
    """Delete a record at once for readers, then in fact."""
    old = private_name(target)
    with suppress(FileNotFoundError):  # another writer was faster
        target.rename(old)
    remove(old)


def _described(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def _batch_size(columns: Mapping[str, np.ndarray], parts: Mapping[str, np.ndarray]) -> int:
    """Rows of a batch; refuses one without ids, of mixed length, or with unshifted logits."""
    if "sample_id" not in columns:
        raise ValueError(f"expected a column sample_id, got {', '.join(columns) or 'none'}")
    count = len(columns["sample_id"])
    for name, array in parts.items():
        if array.ndim != 2 or len(array) != count:
            raise ValueError(f"expected {name} [{count}, width], got {list(array.shape)}")
    if "logits" in parts and parts["logits"].dtype != np.float16:
        raise ValueError(f"expected logits as float16 of (z - max z), got {parts['logits'].dtype}")
    return count
