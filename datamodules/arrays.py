"""Datasets that fit into memory: a train part and a test part, read from a few files."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from core.names import Split
from datamodules.base import ImageDataModule
from datamodules.manifest import files_manifest
from datamodules.samples import ArraySource
from datamodules.splitting import stratified

Part = Literal["train", "test"]

VAL_SEED = 20_240_611
"""Decides which samples of `train` are `val`; another number is another dataset."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Files of a part: the folder that has them and their names in it."""

    folder: Path
    names: tuple[str, ...]

    @property
    def absent(self) -> list[str]:
        """Names that are not there."""
        return [name for name in self.names if not (self.folder / name).is_file()]

    @property
    def paths(self) -> list[Path]:
        """Each file."""
        return [self.folder / name for name in self.names]


def best_located(options: list[Located]) -> Located:
    """The first complete option, else the one that lacks the fewest files."""
    return min(options, key=lambda option: len(option.absent) / len(option.names))


class ArrayDataModule(ImageDataModule):
    """Base of datasets whose publisher made a train and a test part.

    Args:
        val_fraction: Share of `train` that becomes `val`, with the class balance of the whole and
            the same samples for ever; 0 = there is no `val`.
        options: As in ImageDataModule.
    """

    version: ClassVar[int] = 1
    """Part of the digest; raise it when the same files are read as other samples."""

    def __init__(self, *, val_fraction: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.val_fraction = val_fraction

    @abstractmethod
    def locate(self, part: Part) -> Located:
        """Where the files of a part are, or where they would best be."""

    @abstractmethod
    def expectation(self, part: Part) -> str:
        """What a user should have: file names, size or magic; ends the sentence of a fault."""

    @abstractmethod
    def count_part(self, part: Part) -> int:
        """Samples of a part, from sizes and headers alone."""

    @abstractmethod
    def read_part(self, part: Part) -> ArraySource:
        """Read the files of a part, all checks included."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """`val` is there only where a part of `train` is set aside for it."""
        return ("train", "val", "test") if self.val_fraction else ("train", "test")

    def faults(self, split: Split) -> list[str]:
        """Also says how to get a `val` split."""
        faults = super().faults(split)
        if split == "val" and not self.val_fraction:
            key = f"dataset_library.{self.library_name}.val_fraction=0.1"
            return [f"{fault}; {key} sets a part of train aside" for fault in faults]
        return faults

    def wrong_options(self) -> list[str]:
        """A fraction outside [0, 1)."""
        if 0 <= self.val_fraction < 1:
            return []
        key = f"dataset_library.{self.library_name}.val_fraction"
        return [f"expected {key} in [0, 1), got {self.val_fraction}"]

    def missing(self, split: Split) -> list[str]:
        """Files of the part that the split is made of."""
        part = _part(split)
        located = self.locate(part)
        if not located.absent:
            return []
        entry = f"dataset_library.{self.library_name}"
        download = f" (or {entry}.download=true)" if self.archives else ""
        return [
            f"{self.library_name} {split}: {', '.join(located.absent)} not found in "
            f"{located.folder}; expected {self.expectation(part)}; "
            f"get it from {self.homepage} and set {entry}.root=<its folder>{download}"
        ]

    def digest(self, split: Split, *, verify: bool) -> str:
        """Files of the part, and how `val` is cut from it."""
        part = _part(split)
        located = self.locate(part)
        identity: dict[str, Any] = {"reader": type(self).__name__, "version": self.version}
        if part == "train" and self.val_fraction:
            identity["cut"] = [split, self.val_fraction, VAL_SEED]
        return files_manifest(located.folder, located.names, identity=identity, verify=verify)

    def count_samples(self, split: Split) -> int:
        """From sizes and headers; only a cut of `train` needs its labels."""
        part = _part(split)
        if part == "train" and self.val_fraction:
            return len(self.read(split))
        return self.count_part(part)

    def read(self, split: Split) -> ArraySource:
        """The part, or the cut of it."""
        part = _part(split)
        source = self.read_part(part)
        if part == "test" or not self.val_fraction:
            return source
        fractions = {"val": self.val_fraction, "train": 1 - self.val_fraction}
        return source.take(stratified(source.labels, fractions=fractions, seed=VAL_SEED)[split])


def _part(split: Split) -> Part:
    return "test" if split == "test" else "train"
