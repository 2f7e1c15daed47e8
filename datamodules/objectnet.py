"""ObjectNet: everyday objects in unusual places and poses, with the mapping its authors publish."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from core.errors import DataError
from core.names import Split
from datamodules.folder import FolderDataModule, Tree, few, sub_folders
from datamodules.label_space import IMAGENET_CLASSES, LabelSpace

TITLES = "folder_to_objectnet_label.json"
OVERLAP = "objectnet_to_imagenet_1k.json"
NUMBERS = "pytorch_to_imagenet_2012_id.json"
LABELS = "imagenet_to_label_2012_v2"
MAPPINGS = (TITLES, OVERLAP, NUMBERS, LABELS)


class ObjectNet(FolderDataModule):
    """The 113 of ObjectNet's 313 classes that an ImageNet model knows, 18,574 images.

    The authors marked every image with a red border so that nobody trains on it; it is cut off.

    Args:
        options: As in ImageDataModule. `root` holds `images` and `mappings`, or `objectnet-1.0`
            with both in it.
    """

    library_name = "objectnet"
    homepage: ClassVar[str] = "https://objectnet.dev/download.html"
    border: ClassVar[int] = 2

    @property
    def splits(self) -> tuple[Split, ...]:
        """A test set only."""
        return ("test",)

    @property
    def place(self) -> Path:
        """Folder that holds `images` and `mappings`."""
        inner = self.folder / "objectnet-1.0"
        return inner if inner.is_dir() else self.folder

    @property
    def classes(self) -> list[str]:
        """ObjectNet's own names, in the order of the class folders' names."""
        titles = self._mapping(TITLES)
        return [str(titles[folder]) for folder in self.overlap()]

    @property
    def label_space(self) -> LabelSpace:
        """ImageNet classes that count as each class; `Bicycle` has two."""
        return LabelSpace(name="objectnet", members=tuple(self.overlap().values()))

    def overlap(self) -> dict[str, tuple[int, ...]]:
        """Class folder -> classes of an ImageNet model, sorted by folder.

        Raises:
            DataError: The mapping files contradict each other.
        """
        folder_of = {title: folder for folder, title in self._mapping(TITLES).items()}
        index_of = self._model_indices()
        found = {}
        for title, labels in self._mapping(OVERLAP).items():
            if title not in folder_of:
                raise DataError(f"{OVERLAP} has class {title!r}, expected it in {TITLES} too")
            found[folder_of[title]] = tuple(
                sorted(_index(index_of, label) for label in str(labels).split("; "))
            )
        return dict(sorted(found.items()))

    def _model_indices(self) -> dict[str, list[int]]:
        """ImageNet label -> indices in a model's logits; the few labels that occur twice have two.

        Line n of the label list belongs to the model index whose number in the 2012 order is n.
        """
        lines = (self.place / "mappings" / LABELS).read_text(encoding="utf-8").splitlines()
        numbers = {int(index): int(line) for index, line in self._mapping(NUMBERS).items()}
        if len(lines) != IMAGENET_CLASSES or sorted(numbers.values()) != list(range(len(lines))):
            raise DataError(
                f"expected {IMAGENET_CLASSES} lines in {LABELS} and one index for each in "
                f"{NUMBERS}, got {len(lines)} lines and {len(numbers)} indices"
            )
        indices: dict[str, list[int]] = {}
        for index, line in sorted(numbers.items()):
            indices.setdefault(lines[line].strip(), []).append(index)
        return indices

    def _mapping(self, name: str) -> dict[str, Any]:
        path = self.place / "mappings" / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is damaged: expected JSON, got {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: expected a JSON object, got {type(content).__name__}")
        return content

    def tree(self, split: Split) -> Tree:
        """Folders of the classes that overlap; the other 200 are not looked at."""
        return Tree(
            folder=self.place,
            label_of={f"images/{folder}": label for label, folder in enumerate(self.overlap())},
        )

    def files_beside(self, split: Split) -> list[str]:
        """The mapping files decide the labels."""
        return [f"mappings/{name}" for name in MAPPINGS]

    def missing(self, split: Split) -> list[str]:
        """Mapping files, class folders, or images of a class."""
        absent = [name for name in MAPPINGS if not (self.place / "mappings" / name).is_file()]
        if absent:
            return [
                f"objectnet: {', '.join(absent)} not found in {self.place / 'mappings'}; expected "
                f"the folders images and mappings as published; {self.where_to_get()}"
            ]
        images, expected = self.place / "images", self.overlap()
        lacking = sorted(set(expected) - set(sub_folders(images)))
        if lacking:
            return [
                f"objectnet: expected {len(expected)} class folders in {images}, "
                f"found none for {few(lacking)}; {self.where_to_get()}"
            ]
        return self.empty_classes(self.tree(split))


def _index(index_of: Mapping[str, list[int]], label: str) -> int:
    """The one model index of an ImageNet label."""
    indices = index_of.get(label, [])
    if len(indices) != 1:
        raise DataError(
            f"expected exactly one line {label!r} in {LABELS}, got {len(indices)}, "
            f"so {OVERLAP} names no certain class"
        )
    return indices[0]
