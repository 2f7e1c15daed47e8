"""Test sets made for models of CIFAR-10: corrupted, newly collected, labelled by many people."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from core.errors import DataError, unknown
from core.names import Split
from datamodules.base import ImageDataModule
from datamodules.cifar import CIFAR10, CIFAR10_CLASSES
from datamodules.manifest import files_manifest
from datamodules.numpy_files import array_source, read_array, read_images
from datamodules.samples import ArraySource
from datamodules.stored_views import StoredViews
from datamodules.views.view import SEVERITIES

PEOPLE_TOLERANCE = 1e-4
"""How far a row of label shares may be from a sum of one: they are published in float64."""

KINDS = (
    "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow "
    "frost fog brightness contrast elastic_transform pixelate jpeg_compression speckle_noise "
    "gaussian_blur spatter saturate"
)


class _OfCIFAR10(ImageDataModule):
    """A test set with the classes of CIFAR-10, in arrays of numpy.

    Args:
        options: As in ImageDataModule.
    """

    version: ClassVar[int] = 1
    """Part of the digest; raise it when the same files are read as other samples."""
    channels = 3
    folders: ClassVar[tuple[str, ...]] = ("",)
    """Folders below the root that may hold the files, as they come out of the archive."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """A test set only."""
        return ("test",)

    @property
    def classes(self) -> list[str]:
        """Those of CIFAR-10."""
        return CIFAR10_CLASSES.split()

    @abstractmethod
    def file_names(self) -> tuple[str, ...]:
        """Arrays that are read."""

    @property
    def place(self) -> Path:
        """The folder that has the files, else the root."""
        found = (self.folder / name for name in self.folders)
        return next((one for one in found if (one / self.file_names()[0]).is_file()), self.folder)

    def missing(self, split: Split) -> list[str]:
        """Arrays that are not there."""
        absent = [name for name in self.file_names() if not (self.place / name).is_file()]
        if not absent:
            return []
        return [
            f"{self.library_name} {split}: expected {', '.join(absent)} in {self.place}, found no "
            f"such file; get it from {self.homepage} and set "
            f"dataset_library.{self.library_name}.root=<its folder>"
        ]

    def identity(self) -> dict[str, Any]:
        """What, beside the files, decides the samples. JSON."""
        return {"reader": type(self).__name__, "version": self.version}

    def digest(self, split: Split, *, verify: bool) -> str:
        """The arrays, and how they are read."""
        return files_manifest(
            self.place, self.file_names(), identity=self.identity(), verify=verify
        )

    def labels_of(self, name: str, count: int) -> np.ndarray:
        """Int64 [count] of a label file, checked."""
        labels = read_array(self.place / name, kinds="iu", shape=(count,)).astype(np.int64)
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if len(wrong):
            raise DataError(
                f"{self.place / name}, record {wrong[0]}: expected labels in "
                f"0..{len(self.classes) - 1}, got {labels[wrong[0]]} ({len(wrong)} such records)"
            )
        return labels


class NewCIFAR10(_OfCIFAR10):
    """CIFAR-10.1: about 2,000 new images, collected as those of CIFAR-10 were.

    Args:
        edition: `v6`, balanced, 2,000 images, or `v4`, 2,021 images.
        options: As in ImageDataModule.
    """

    library_name = "cifar10_1"
    homepage: ClassVar[str] = "https://github.com/modestyachts/CIFAR-10.1"
    folders: ClassVar[tuple[str, ...]] = ("", "datasets")

    def __init__(self, *, edition: Literal["v4", "v6"] = "v6", **options: Any) -> None:
        super().__init__(**options)
        self.edition = edition

    def wrong_options(self) -> list[str]:
        """An edition that was never published."""
        if self.edition in ("v4", "v6"):
            return []
        return [unknown("dataset_library.cifar10_1.edition", self.edition, ("v4", "v6"))]

    def file_names(self) -> tuple[str, ...]:
        """Images, then labels."""
        return (f"cifar10.1_{self.edition}_data.npy", f"cifar10.1_{self.edition}_labels.npy")

    def count_samples(self, split: Split) -> int:
        """From the header."""
        return len(read_images(self.place / self.file_names()[0]))

    def read(self, split: Split) -> ArraySource:
        """Both arrays."""
        images, labels = self.file_names()
        pixels = read_images(self.place / images)
        return array_source(pixels, self.labels_of(labels, len(pixels)), images)


class _WithCIFAR10(_OfCIFAR10):
    """A test set that belongs to the test images of CIFAR-10, which are read from their own folder.

    Args:
        cifar10_root: Folder of CIFAR-10.
        options: As in ImageDataModule.
    """

    def __init__(self, *, cifar10_root: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.cifar10 = CIFAR10(root=cifar10_root)

    def missing(self, split: Split) -> list[str]:
        """Files of its own, and the test images."""
        faults = super().missing(split)
        if self.cifar10.missing(split):
            key = f"dataset_library.{self.library_name}.cifar10_root"
            faults.append(
                f"{self.library_name} {split}: the CIFAR-10 test images are not in "
                f"{self.cifar10.folder}; get them from {self.cifar10.homepage} and set "
                f"{key}=<their folder>"
            )
        return faults

    def count_samples(self, split: Split) -> int:
        """As many as CIFAR-10 has."""
        return self.cifar10.count_samples(split)

    def read(self, split: Split) -> ArraySource:
        """The clean test images."""
        return self.cifar10.read(split)


class CIFAR10H(_WithCIFAR10):
    """CIFAR-10H: what about fifty people each said about every test image of CIFAR-10.

    Args:
        options: As in _WithCIFAR10.
    """

    library_name = "cifar10h"
    homepage: ClassVar[str] = "https://github.com/jcpeterson/cifar-10h"
    folders: ClassVar[tuple[str, ...]] = ("", "data")

    def file_names(self) -> tuple[str, ...]:
        """Share of the people that chose each class."""
        return ("cifar10h-probs.npy",)

    def digest(self, split: Split, *, verify: bool) -> str:
        """The images and what people said about them."""
        identity = {**self.identity(), "images": self.cifar10.digest(split, verify=verify)}
        return files_manifest(self.place, self.file_names(), identity=identity, verify=verify)

    def label_distribution(self, split: Split = "test") -> np.ndarray:
        """Share of the people that chose each class, float64 [n, 10]; rows sum to one.

        Raises:
            DataError: The file does not have a distribution for each test image.
        """
        self.require(split)
        path = self.place / self.file_names()[0]
        shape = (self.count_samples(split), self.num_classes)
        shares = np.asarray(read_array(path, kinds="f", shape=shape), dtype=np.float64)
        wrong = np.flatnonzero(
            (shares.min(axis=1) < 0) | ~(np.abs(shares.sum(axis=1) - 1) <= PEOPLE_TOLERANCE)
        )
        if len(wrong):
            raise DataError(
                f"{path}, row {wrong[0]}: expected shares of at least 0 that sum to 1, got a sum "
                f"of {shares[wrong[0]].sum():.6g} ({len(wrong)} such rows)"
            )
        return shares


class CIFAR10C(StoredViews, _WithCIFAR10):
    """CIFAR-10-C: the test images of CIFAR-10, and their published corruptions as views.

    `clean` is CIFAR-10 itself; `fog_3` and its like are read from `fog.npy`.

    Args:
        options: As in _WithCIFAR10.
    """

    library_name = "cifar10c"
    homepage: ClassVar[str] = "https://zenodo.org/records/2535967"
    folders: ClassVar[tuple[str, ...]] = ("", "CIFAR-10-C")
    kinds: ClassVar[tuple[str, ...]] = tuple(KINDS.split())

    def file_names(self) -> tuple[str, ...]:
        """What every corruption needs."""
        return ("labels.npy",)

    def digest(self, split: Split, *, verify: bool) -> str:
        """That of CIFAR-10: `clean` is nothing else, and its records serve both."""
        return self.cifar10.digest(split, verify=verify)

    def stored(self, kind: str, severity: int) -> "CorruptedCIFAR10":
        """One severity of one file."""
        return CorruptedCIFAR10(kind=kind, severity=severity, root=self.root, **self.own_options())


class CorruptedCIFAR10(_OfCIFAR10):
    """One corruption of CIFAR-10-C at one severity; CIFAR10C makes them.

    Args:
        kind: Name of the file, `fog`.
        severity: 1 to 5: which fifth of the file.
        options: As in ImageDataModule.
    """

    library_name = CIFAR10C.library_name
    homepage: ClassVar[str] = CIFAR10C.homepage
    folders: ClassVar[tuple[str, ...]] = CIFAR10C.folders

    def __init__(self, *, kind: str, severity: int, **options: Any) -> None:
        super().__init__(**options)
        self.kind, self.severity = kind, severity

    def file_names(self) -> tuple[str, ...]:
        """Labels, and the images of all five severities."""
        return ("labels.npy", f"{self.kind}.npy")

    def identity(self) -> dict[str, Any]:
        """Also which fifth."""
        return {**super().identity(), "severity": self.severity}

    def count_samples(self, split: Split) -> int:
        """A fifth of the file."""
        return len(self._images()) // len(SEVERITIES)

    def read(self, split: Split) -> ArraySource:
        """The fifth of the images, and their labels."""
        images = self._images()
        count = len(images) // len(SEVERITIES)
        rows = slice((self.severity - 1) * count, self.severity * count)
        labels = self.labels_of("labels.npy", len(images))[rows]
        return array_source(images[rows], labels, f"{self.kind}.npy", first=rows.start)

    def _images(self) -> np.ndarray:
        path = self.place / f"{self.kind}.npy"
        images = read_images(path)
        if len(images) % len(SEVERITIES):
            raise DataError(
                f"{path}: expected as many images of each of {len(SEVERITIES)} severities, "
                f"got {len(images)} images"
            )
        return images
