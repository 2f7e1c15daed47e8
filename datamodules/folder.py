"""Datasets with one folder a class and one file an image."""

import os
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from core.errors import unknown
from core.names import SPLITS, Split
from datamodules.base import ImageDataModule
from datamodules.manifest import files_manifest
from datamodules.samples import FileSource

EXTENSIONS = (
    ".bmp",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of image files, in any case; other files are left alone."""

SHOWN = 5
"""Names a message lists before it says how many more there are."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A folder that has one folder a class.

    Args:
        folder: The folder.
        label_of: Path of a class folder below it -> label. Other folders are not looked at.
    """

    folder: Path
    label_of: Mapping[str, int]

    def images(self) -> Iterator[tuple[str, int]]:
        """Path below the folder and label of each image; label by label, each sorted by path."""
        for name, label in sorted(self.label_of.items(), key=lambda item: (item[1], item[0])):
            for path in sorted(_image_paths(self.folder / name)):
                yield f"{name}/{path}", label


def few(names: Sequence[str]) -> str:
    """The first names and how many more there are.

    Example:
        >>> few(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def sub_folders(folder: Path) -> list[str]:
    """Sorted names of the folders in a folder; hidden ones are left out."""
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if _visible(entry.name) and entry.is_dir()
    )


def _visible(name: str) -> bool:
    return not name.startswith(".")


def _image_paths(folder: Path) -> Generator[str, None, None]:
    """Paths of the images below a class folder, relative to it, in any order."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _visible(entry.name):
                continue
            if entry.name.lower().endswith(EXTENSIONS):
                yield entry.name
            elif entry.is_dir():
                yield from (f"{entry.name}/{path}" for path in _image_paths(folder / entry.name))


class FolderDataModule(ImageDataModule):
    """Base of datasets that decode a file for each image.

    Args:
        options: As in ImageDataModule.
    """

    version: ClassVar[int] = 1
    """Part of the digest; raise it when the same files are read as other samples."""
    channels = 3  # every file is decoded to RGB
    border: ClassVar[int] = 0
    """Pixels to cut off on each side."""

    @abstractmethod
    def tree(self, split: Split) -> Tree:
        """Where the images of a split are."""

    def files_beside(self, split: Split) -> list[str]:
        """Other files that decide the labels, relative to the tree's folder."""
        return []

    def digest(self, split: Split, *, verify: bool) -> str:
        """Every image, the class folders, and what else decides the labels."""
        tree = self.tree(split)
        images = [name for name, _ in tree.images()]
        identity: dict[str, Any] = {
            "reader": type(self).__name__,
            "version": self.version,
            "border": self.border,
            "labels": dict(tree.label_of),
        }
        names = images + self.files_beside(split)
        return files_manifest(tree.folder, names, identity=identity, verify=verify)

    def count_samples(self, split: Split) -> int:
        """Files of the listing."""
        return sum(1 for _ in self.tree(split).images())

    def read(self, split: Split) -> FileSource:
        """List the files."""
        tree = self.tree(split)
        images = list(tree.images())
        return FileSource(
            folder=tree.folder,
            names=[name for name, _ in images],
            labels=np.array([label for _, label in images], dtype=np.int64),
            border=self.border,
        )

    def where_to_get(self) -> str:
        """End of the sentence about what is missing."""
        source = f"get it from {self.homepage} and " if self.homepage else ""
        return f"{source}set dataset_library.{self.library_name}.root=<its folder>"

    def empty_classes(self, tree: Tree) -> list[str]:
        """A sentence for the class folders without an image, if there are any."""
        empty = [name for name in sorted(tree.label_of) if _is_empty(tree.folder / name)]
        if not empty:
            return []
        return [
            f"{self.library_name}: no image in {few(empty)} of {tree.folder}; "
            f"expected files ending in {', '.join(EXTENSIONS)}"
        ]


def _is_empty(folder: Path) -> bool:
    with closing(_image_paths(folder)) as paths:
        return next(paths, None) is None


class ImageFolder(FolderDataModule):
    """Any tree of one folder a class; classes are sorted by name.

    Sub-folders of `root` called `train`, `val` and `test` that hold class folders themselves are
    the splits. Without any of them the whole tree is one split.

    Args:
        split: What the tree is where it has no split folders.
        entry: Name of the entry in the dataset library, for messages.
        options: As in ImageDataModule.
    """

    def __init__(
        self, *, split: Split = "test", entry: str = "image_folder", **options: Any
    ) -> None:
        super().__init__(**options)
        self.split = split
        self.library_name = entry

    @property
    def _split_folders(self) -> dict[Split, Path]:
        found = {split: self.folder / split for split in SPLITS if sub_folders(self.folder / split)}
        return found or {self.split: self.folder}

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those that have a folder, or the one that the whole tree is."""
        return tuple(self._split_folders)

    @property
    def classes(self) -> list[str]:
        """Names of the class folders of all splits, sorted."""
        return sorted(
            {name for folder in self._split_folders.values() for name in sub_folders(folder)}
        )

    def wrong_options(self) -> list[str]:
        """A split that has no name."""
        if self.split in SPLITS:
            return []
        return [unknown(f"split in dataset_library.{self.library_name}.split", self.split, SPLITS)]

    def tree(self, split: Split) -> Tree:
        """Class folders of the split; the labels are those of all splits together."""
        folder = self._split_folders[split]
        label_of = {name: label for label, name in enumerate(self.classes)}
        return Tree(folder=folder, label_of={name: label_of[name] for name in sub_folders(folder)})

    def missing(self, split: Split) -> list[str]:
        """No folder, no class folder, or class folders without images."""
        tree = self.tree(split)
        if not tree.label_of:
            state = "has no sub-folder" if tree.folder.is_dir() else "does not exist"
            return [
                f"{self.library_name} {split}: {tree.folder} {state}; expected one folder a class "
                f"with images in it; {self.where_to_get()}"
            ]
        return self.empty_classes(tree)
