"""Datasets whose publisher lists the images in a CSV file: paths, labels and groups."""

import csv
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.names import Split
from datamodules.folder import FolderDataModule, Tree, few
from datamodules.manifest import files_manifest
from datamodules.samples import FileSource


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The images of a split, as the table has them."""

    names: list[str]  # paths below the folder of the images
    labels: list[int]
    groups: dict[str, list[str]] = field(default_factory=dict)


def read_rows(table: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Lines of a CSV file by column name, in their order.

    Raises:
        DataError: Columns are missing, a line is shorter than the first, or there is no line.
    """
    with table.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            found = ", ".join(reader.fieldnames or ()) or "none"
            raise DataError(f"{table}: expected the columns {', '.join(absent)}, got {found}")
        rows = list(reader)
    if not rows:
        raise DataError(f"{table}: expected a line for each image, got none")
    for number, row in enumerate(rows, start=1):
        if any(row[name] is None for name in columns):
            raise DataError(f"{table}, record {number}: expected {len(row)} fields, got fewer")
    return rows


class TableDataModule(FolderDataModule):
    """Base of datasets of one image file a line of a table.

    Args:
        options: As in ImageDataModule.
    """

    @property
    @abstractmethod
    def place(self) -> Path:
        """Folder that holds the table."""

    @abstractmethod
    def table(self, split: Split) -> Path:
        """The CSV file of a split."""

    @abstractmethod
    def listed(self, split: Split) -> Listed:
        """What the table says; DataError where it cannot be understood."""

    @cached_property
    def _listings(self) -> dict[Split, Listed]:
        return {}

    def listing(self, split: Split) -> Listed:
        """The same, read once."""
        if split not in self._listings:
            self._listings[split] = self.listed(split)
        return self._listings[split]

    def tree(self, split: Split) -> Tree:
        """The folder that paths are relative to; the table says what is in it."""
        return Tree(folder=self.place, label_of={})

    def missing(self, split: Split) -> list[str]:
        """The table, its columns, or image files."""
        table = self.table(split)
        if not table.is_file():
            return [
                f"{self.library_name} {split}: expected {table.name} in {table.parent}, found no "
                f"such file; {self.where_to_get()}"
            ]
        names = self.listing(split).names
        absent = [name for name in names if not (self.tree(split).folder / name).is_file()]
        if not absent:
            return []
        return [
            f"{self.library_name} {split}: {len(absent)} of {len(names)} images that {table} lists "
            f"are not in {self.tree(split).folder}: {few(absent)}; {self.where_to_get()}"
        ]

    def digest(self, split: Split, *, verify: bool) -> str:
        """Every image, and what the table says of it."""
        listed = self.listing(split)
        identity: dict[str, Any] = {
            "reader": type(self).__name__,
            "version": self.version,
            "labels": listed.labels,
            "groups": listed.groups,
            "names": listed.names,
        }
        folder = self.tree(split).folder
        return files_manifest(folder, listed.names, identity=identity, verify=verify)

    def count_samples(self, split: Split) -> int:
        """Lines of the table."""
        return len(self.listing(split).names)

    def read(self, split: Split) -> FileSource:
        """In the order of the table."""
        listed = self.listing(split)
        return FileSource(
            folder=self.tree(split).folder,
            names=listed.names,
            labels=np.array(listed.labels, dtype=np.int64),
            groups=listed.groups,
        )
