"""GeoDE: objects photographed for the purpose in six regions of the world."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from core.errors import DataError, unknown
from core.names import Split
from datamodules.label_space import LabelSpace
from datamodules.tables import Listed, TableDataModule, read_rows

PATH, OBJECT, REGION, COUNTRY = "file_path", "object", "region", "ip_country"


class GeoDE(TableDataModule):
    """61,940 images of 40 objects, balanced over six regions.

    The publisher gives no classes of ImageNet. A model of these 40 objects is evaluated as it is;
    for a model of ImageNet, `mapping` says which of its classes count as which object, and objects
    it does not name are left out.

    Args:
        mapping: JSON file of an object's name -> list of ImageNet classes; empty for none.
        options: As in ImageDataModule. `root` holds `index.csv` and `images`.

    Reference:
        Ramaswamy et al., GeoDE: a geographically diverse evaluation dataset for object recognition
        (2023).
    """

    library_name = "geode"
    homepage: ClassVar[str] = "https://geodiverse-data-collection.cs.princeton.edu/"
    group_columns = ("region", "country")

    def __init__(self, *, mapping: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.mapping = mapping

    @property
    def splits(self) -> tuple[Split, ...]:
        """A test set only."""
        return ("test",)

    @property
    def place(self) -> Path:
        """The root."""
        return self.folder

    def table(self, split: Split) -> Path:
        """The one table."""
        return self.folder / "index.csv"

    @property
    def classes(self) -> list[str]:
        """Objects in the order of their names: all, or those that are mapped."""
        return sorted(self._members) if self.mapping else self._objects

    @property
    def label_space(self) -> LabelSpace | None:
        """ImageNet classes that count as each object, where a mapping is given."""
        if not self.mapping:
            return None
        try:
            return LabelSpace(
                name="geode", members=tuple(self._members[name] for name in self.classes)
            )
        except ValueError as error:
            raise DataError(f"{self.mapping}: {error}") from error

    def wrong_options(self) -> list[str]:
        """A mapping that does not exist."""
        if not self.mapping or Path(self.mapping).expanduser().is_file():
            return []
        return [f"dataset_library.{self.library_name}.mapping: no such file {self.mapping}"]

    def listed(self, split: Split) -> Listed:
        """Object, region and country of each image."""
        classes = {name: i for i, name in enumerate(self.classes)}
        if strange := sorted(set(classes) - set(self._objects)):
            raise DataError(f"{self.mapping}: {unknown('object', strange[0], self._objects)}")
        rows = [row for row in self._rows if row[OBJECT] in classes]
        return Listed(
            names=[f"images/{row[PATH]}" for row in rows],
            labels=[classes[row[OBJECT]] for row in rows],
            groups={
                "region": [row[REGION] for row in rows],
                "country": [row[COUNTRY] for row in rows],
            },
        )

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        return read_rows(self.table("test"), (PATH, OBJECT, REGION, COUNTRY))

    @property
    def _objects(self) -> list[str]:
        return sorted({row[OBJECT] for row in self._rows})

    @cached_property
    def _members(self) -> dict[str, tuple[int, ...]]:
        """Object -> classes of an ImageNet model."""
        path = Path(self.mapping).expanduser()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is damaged: expected JSON, got {error}") from error
        is_mapping = isinstance(found, dict) and all(
            isinstance(ids, list) and all(type(i) is int for i in ids) for ids in found.values()
        )
        if not is_mapping:
            raise DataError(f"{path}: expected an object -> list of ImageNet classes")
        return {name: tuple(ids) for name, ids in found.items() if ids}
