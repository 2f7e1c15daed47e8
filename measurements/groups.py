"""Groups of samples: from the dataset itself, or from a table the user has made."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from core.digest import file_digest
from core.errors import DataError, NotApplicable
from core.names import Split
from datamodules.base import ImageDataModule
from measurements.functional.fairness import encode
from recording.records import Records

ID, PATH = "sample_id", "path"


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """One way to part the samples of a dataset."""

    column: str  # name of the column, as a part of result keys
    codes: Tensor  # [N] int64, -1 for none
    names: list[str]  # of each code, as parts of result keys


@dataclass(frozen=True)
class GroupTables:
    """Tables of groups by dataset; a dataset without a table is asked itself.

    A table is a CSV file with a first line of names: `sample_id` (position in the split) or `path`
    (what the dataset calls the sample), then one column a grouping. An empty field and a sample
    that is not in the table belong to no group.

    Args:
        files: Dataset -> file.

    Raises:
        ValueError: A file does not exist.
    """

    files: Mapping[str, str]

    def __post_init__(self) -> None:
        absent = [file for file in self.files.values() if not Path(file).is_file()]
        if absent:
            raise ValueError(f"no such table of groups: {', '.join(absent)}; set group_files")

    def digests(self) -> dict[str, str]:
        """Digest of every table: a changed table is another definition."""
        return {name: file_digest(Path(file)) for name, file in self.files.items()}

    def groupings(
        self, name: str, datamodule: ImageDataModule, split: Split, records: Records
    ) -> list[Grouping]:
        """Every grouping of a dataset's samples, in the order of the columns.

        Raises:
            DataError: The table cannot be understood, or names no sample of the split.
            NotApplicable: There is neither a table nor a group column.
        """
        if name in self.files:
            columns = read_groups(Path(self.files[name]), datamodule, split)
        else:
            columns = {
                column: dict(enumerate(values))
                for column, values in datamodule.groups(split).items()
            }
        if not columns:
            raise NotApplicable(f"{name} has no group columns and group_files names no table of it")
        return [
            _grouping(column, values, records)
            for column, values in zip(key_parts(columns), columns.values(), strict=True)
        ]


def read_groups(file: Path, datamodule: ImageDataModule, split: Split) -> dict[str, dict[int, str]]:
    """Table of groups as column -> sample id -> group.

    Raises:
        DataError: The table cannot be understood, or names no sample of the split.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines, restval="")
        names = list(reader.fieldnames or [])
        key = next((name for name in (ID, PATH) if name in names), None)
        if key is None or len(names) < 2:
            raise DataError(
                f"{file}: expected the columns {ID} or {PATH}, then groups, got {', '.join(names)}"
            )
        rows = list(reader)
    keys = [row[key] for row in rows]
    if len(set(keys)) < len(keys):
        twice = next(one for one in keys if keys.count(one) > 1)
        raise DataError(f"{file}: {key} {twice!r} stands in more than one line")
    ids = _ids_by_key(key, datamodule, split)
    if foreign := [one for one in keys if one not in ids]:
        known = f"are 0 to {len(ids) - 1}, positions in the split" if key == ID else "are others"
        raise DataError(
            f"{file}: {len(foreign)} of {len(keys)} lines have no {key} of the {split} split, such "
            f"as {', '.join(map(repr, foreign[:3]))}; its {len(ids)} {key}s {known}"
        )
    columns = [name for name in names if name not in (ID, PATH)]
    return {name: {ids[row[key]]: row[name].strip() for row in rows} for name in columns}


def key_parts(names: Iterable[str]) -> list[str]:
    """Names as parts of result keys: lower case, letters and digits; equal ones get a number.

    Example:
        >>> key_parts(["Age group", "age-group", "42"])
        ['age_group', 'age_group_2', '42']
    """
    taken: dict[str, int] = {}
    parts = []
    for name in names:
        part = re.sub(r"\W+", "_", name.lower()).strip("_") or "unnamed"
        taken[part] = taken.get(part, 0) + 1
        parts.append(part if taken[part] == 1 else f"{part}_{taken[part]}")
    return parts


def _grouping(column: str, values: Mapping[int, str], records: Records) -> Grouping:
    codes, names = encode(values, records.sample_id)
    return Grouping(column=column, codes=codes, names=key_parts(names))


def _ids_by_key(key: str, datamodule: ImageDataModule, split: Split) -> dict[str, int]:
    total = datamodule.count(split)
    if key == ID:
        return {str(i): i for i in range(total)}
    return {datamodule.sample_path(split, i): i for i in range(total)}
