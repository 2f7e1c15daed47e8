"""Cue-conflict images: the shape of one thing in the texture of another."""

import re
from pathlib import Path
from typing import ClassVar

from core.errors import DataError
from core.names import Split
from datamodules.folder import FolderDataModule, Tree, few, sub_folders
from datamodules.samples import FileSource

MEMBERS: dict[str, str] = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898 899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385 386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}
"""Class -> the ImageNet classes it is made of, as its authors publish them (texture-vs-shape,
model-vs-human: `human_categories.py`): descendants in WordNet, some left out by hand."""

NAME = re.compile(r"(?P<shape>[a-z]+)\d+-(?P<texture>[a-z]+)\d+")
"""Of a file, without its ending."""


def members() -> list[list[int]]:
    """Classes of an ImageNet model for each of the 16 classes, in the order of `MEMBERS`.

    Example:
        >>> members()[1], sum(map(len, members()))
        ([294, 295, 296, 297], 207)
    """
    return [[index for part in text.split() for index in _range(part)] for text in MEMBERS.values()]


def _range(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)


class CueConflict(FolderDataModule):
    """1,280 images whose shape and texture are each of one of 16 classes; some are of one class.

    The label is the shape; no model has the 16 classes, ImageNet models have what they are made of.

    Args:
        options: As in ImageDataModule. `root` holds one folder a shape, with files such as
            `airplane/airplane1-bicycle2.png`, or is a folder of the repository above it.
    """

    library_name = "cue_conflict"
    homepage: ClassVar[str] = "https://github.com/rgeirhos/texture-vs-shape"
    foreign = True
    folders: ClassVar[tuple[str, ...]] = (
        "",
        "style-transfer-preprocessed-512",
        "stimuli/style-transfer-preprocessed-512",
    )
    """Folders below the root that may hold the images."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """A test set only."""
        return ("test",)

    @property
    def classes(self) -> list[str]:
        """The 16, in the order of the labels."""
        return list(MEMBERS)

    @property
    def place(self) -> Path:
        """The folder that has the class folders, else the root."""
        found = (self.folder / name for name in self.folders)
        return next((one for one in found if (one / self.classes[0]).is_dir()), self.folder)

    def tree(self, split: Split) -> Tree:
        """A folder a shape."""
        return Tree(folder=self.place, label_of={name: i for i, name in enumerate(self.classes)})

    def missing(self, split: Split) -> list[str]:
        """Class folders, or images of a class."""
        lacking = sorted(set(self.classes) - set(sub_folders(self.place)))
        if lacking:
            return [
                f"cue_conflict {split}: expected {len(MEMBERS)} class folders in {self.place}, "
                f"found none for {few(lacking)}; {self.where_to_get()}"
            ]
        return self.empty_classes(self.tree(split))

    def read(self, split: Split) -> FileSource:
        """List the files; shape and texture are group columns.

        Raises:
            DataError: A file's name does not say its texture, or another shape than its folder.
        """
        source = super().read(split)
        shapes = [self.classes[label] for label in source.labels]
        textures = [
            self._texture(name, shape) for name, shape in zip(source.names, shapes, strict=True)
        ]
        return FileSource(
            folder=source.folder,
            names=source.names,
            labels=source.labels,
            groups={"shape": shapes, "texture": textures},
        )

    def _texture(self, name: str, shape: str) -> str:
        found = NAME.fullmatch(Path(name).stem)
        if found is None or found["shape"] != shape or found["texture"] not in self.classes:
            raise DataError(
                f"{self.place / name}: expected a name like {shape}1-bicycle2.png with two of the "
                "16 classes, the shape as its folder"
            )
        return found["texture"]
