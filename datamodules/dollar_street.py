"""Dollar Street: things of every day in homes of all incomes, with the classes of ImageNet."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from core.digest import digest
from core.errors import DataError
from core.names import Split
from datamodules import synsets
from datamodules.label_space import IMAGENET_CLASSES
from datamodules.tables import Listed, TableDataModule, read_rows

PATH, IDS, INCOME, REGION = "imageRelPath", "imagenet_sysnet_id", "income", "region.id"
"""Columns; `sysnet` is how the publisher spells it."""

REGIONS = {"af": "africa", "am": "americas", "as": "asia", "eu": "europe"}

QUARTILES = ("lowest", "lower", "upper", "highest")


class DollarStreet(TableDataModule):
    """Photographs of household objects from 63 countries, by monthly income of the household.

    Each image has one or more of the thousand ImageNet classes, of which any is right:
    `label_sets` gives them all, and the label is the first. Groups are the region and the quartile
    of income among the images of the split.

    Args:
        options: As in ImageDataModule. `root` holds `images_v2_imagenet_test.csv` and `assets`, or
            `dataset_dollarstreet` with both in it.

    Reference:
        Gaviria Rojas et al., The Dollar Street dataset (2022).
    """

    library_name = "dollar_street"
    homepage: ClassVar[str] = "https://mlcommons.org/datasets/dollar-street/"
    group_columns = ("income_quartile", "region")

    @property
    def splits(self) -> tuple[Split, ...]:
        """As published."""
        return ("train", "test")

    @property
    def classes(self) -> list[str]:
        """Those of ImageNet."""
        return synsets.names(synsets.wnids())

    @property
    def place(self) -> Path:
        """Folder that holds the tables and `assets`."""
        inner = self.folder / "dataset_dollarstreet"
        return inner if inner.is_dir() else self.folder

    def table(self, split: Split) -> Path:
        """The table with ImageNet classes."""
        return self.place / f"images_v2_imagenet_{split}.csv"

    def listed(self, split: Split) -> Listed:
        """First class of each image, its region, and its quartile of income."""
        rows = self._rows(split)
        incomes = np.array([_income(row[INCOME], self.table(split)) for row in rows])
        return Listed(
            names=[row[PATH] for row in rows],
            labels=[labels[0] for labels in self._sets(rows, split)],
            groups={
                "income_quartile": [QUARTILES[i] for i in quartiles(incomes)],
                "region": [REGIONS.get(row[REGION], row[REGION]) for row in rows],
            },
        )

    def label_sets(self, split: Split) -> list[tuple[int, ...]]:
        """ImageNet classes that are right, image by image."""
        self.require(split)
        return self._sets(self._rows(split), split)

    def digest(self, split: Split, *, verify: bool) -> str:
        """Also the sets of labels."""
        return digest([super().digest(split, verify=verify), self.label_sets(split)])

    def _rows(self, split: Split) -> list[dict[str, str]]:
        return read_rows(self.table(split), (PATH, IDS, INCOME, REGION))

    def _sets(self, rows: list[dict[str, str]], split: Split) -> list[tuple[int, ...]]:
        return [_label_set(row[IDS], row[PATH], self.table(split)) for row in rows]


def quartiles(incomes: np.ndarray) -> np.ndarray:
    """Quarter of each value, 0 to 3; equal values stay together, in the lower quarter.

    Example:
        >>> quartiles(np.array([10.0, 20.0, 30.0, 40.0, 20.0])).tolist()
        [0, 0, 2, 3, 0]
    """
    cuts = np.quantile(incomes, [0.25, 0.5, 0.75])
    return np.searchsorted(cuts, incomes, side="left")


def _income(text: str, table: Path) -> float:
    try:
        income = float(text)
    except ValueError:
        income = -1.0
    if not 0 <= income < float("inf"):
        raise DataError(f"{table}: expected {INCOME} as a number of at least 0, got {text!r}")
    return income


def _label_set(text: str, path: str, table: Path) -> tuple[int, ...]:
    """Classes of a field such as `[898, 440]`."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    is_list = isinstance(found, list) and len(found) > 0
    if not is_list or any(type(i) is not int or not 0 <= i < IMAGENET_CLASSES for i in found):
        raise DataError(
            f"{table}, {path}: expected {IDS} as a list of classes in 0..{IMAGENET_CLASSES - 1}, "
            f"got {text!r}"
        )
    return tuple(dict.fromkeys(found))
