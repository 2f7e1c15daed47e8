"""Finished records as a reader sees them: checked against their manifest, then read."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.digest import file_digest
from core.errors import DataError, unknown
from store.quarantine import move_aside
from store.sealed import unsealed
from store.table import column_names, read_columns

Part = Literal["logits", "features"]

TABLE = "table.parquet"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class StoredRecords:
    """A finished record folder whose manifest and table were found intact."""

    folder: Path
    manifest: dict[str, Any]
    inode: int
    _read: set[str] = field(default_factory=set, repr=False)

    def __len__(self) -> int:
        return int(self.manifest["rows"])

    def has(self, part: Part) -> bool:
        """Whether logits or features were kept."""
        return f"{part}.npy" in self.manifest["files"]

    @property
    def has_logits(self) -> bool:
        """Whether logits were kept."""
        return self.has("logits")

    @property
    def has_features(self) -> bool:
        """Whether features were kept."""
        return self.has("features")

    def columns(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Columns by name, arrays [n] or [n, k] in the order they were recorded.

        Raises:
            LookupError: There is no such column; the text names those that exist.
        """
        known = column_names(self.folder / TABLE)
        for name in names or ():
            if name not in known:
                raise LookupError(unknown("column", name, known))
        return read_columns(self.folder / TABLE, None if names is None else list(names))

    def logits(self) -> np.ndarray:
        """Logits minus the row's largest, float16 [n, C], as a memory map.

        The map is private: writing to the array changes neither the file nor another reader.

        Raises:
            LookupError: They were not kept.
            core.errors.DataError: The file is damaged; the record is moved aside, so that the next
                evaluation makes it anew.
        """
        return self._array("logits")

    def features(self) -> np.ndarray:
        """Penultimate features [n, D], as a private memory map; raises as `logits` does."""
        return self._array("features")

    def _array(self, part: Part) -> np.ndarray:
        name = f"{part}.npy"
        if not self.has(part):
            raise LookupError(f"records {self.folder.name} were made without {part}")
        if name not in self._read and (fault := _fault(self.folder, self.manifest, name)):
            move_aside(self.folder, fault, inode=self.inode)
            raise DataError(
                f"{self.folder / name} is damaged ({fault}) and was moved aside; "
                "start the same command again to record it anew"
            )
        self._read.add(name)
        return np.load(self.folder / name, mmap_mode="c", allow_pickle=False)


def open_records(folder: Path, *, check: Collection[Part] = ()) -> StoredRecords | str:
    """Records in a folder, or what is wrong with it as the end of a sentence."""
    if not folder.is_dir():
        return "is no folder"
    inode = folder.stat().st_ino
    manifest = read_manifest(folder)
    if isinstance(manifest, str):
        return manifest
    now = {TABLE, *(f"{part}.npy" for part in check)}
    for name in manifest["files"]:
        if fault := _fault(folder, manifest, name, digest=name in now):
            return fault
    return StoredRecords(
        folder=folder, manifest=manifest, inode=inode, _read=now & set(manifest["files"])
    )


def read_manifest(folder: Path) -> dict[str, Any] | str:
    """Manifest of a record folder, or what is wrong with it as the end of a sentence."""
    try:
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return f"is unfinished: it has no {MANIFEST}"
    return unsealed(raw) or f"is damaged: the digest of {MANIFEST} is not that of its content"


def _fault(folder: Path, manifest: Mapping[str, Any], name: str, *, digest: bool = True) -> str:
    """What is wrong with a file of a record; empty where nothing is."""
    expected = manifest["files"][name]
    path = folder / name
    if not path.is_file():
        return f"is damaged: {name} is missing"
    if (size := path.stat().st_size) != expected["bytes"]:
        return f"is damaged: {name} has {size} bytes, expected {expected['bytes']}"
    if digest and file_digest(path) != expected["sha256"]:
        return f"is damaged: the digest of {name} is not that of its content"
    return ""
