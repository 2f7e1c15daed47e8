"""Samples of one split: where their pixels are, and the map-style datasets that serve them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from core.errors import DataError
from core.preprocessing import Preprocessing
from datamodules.decoding import DecodeError, decode
from datamodules.resizing import fit, fit_planes, to_planes

WHITE = 255
"""Largest value of an 8-bit pixel."""

Pair = tuple[Tensor, Tensor]


class ImageDataset(Dataset[tuple[Tensor, int]], ABC):
    """Map-style dataset of float images in [0, 1] and their labels.

    `dataset[i]` is one pair (image [C, H, W] float32, label int). `__getitems__` is the way a
    DataLoader asks for a batch: it returns the batch as two tensors, so use `collate` with it.
    """

    labels: np.ndarray  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Sample `i`; raises DecodeError where its image is damaged."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"expected a sample in 0..{len(self) - 1}, got {i}")
        images, labels = self.__getitems__([int(i) % len(self)])
        return images[0], int(labels[0])

    @abstractmethod
    def __getitems__(self, ids: Sequence[int]) -> Pair:
        """Images [B, C, H, W] float32 and labels [B] int64 of the samples `ids`."""


def collate(batch: Any) -> Any:
    """The `collate_fn` of a DataLoader over an ImageDataset: the batch is one already."""
    return batch


def to_unit_range(pixels: np.ndarray, white: int = WHITE) -> Tensor:
    """Float32 in [0, 1] of uint8 pixels in 0..white, as a tensor that owns its memory."""
    return torch.from_numpy(pixels).to(torch.float32).div_(white)


class ArrayDataset(ImageDataset):
    """Pixels that stand ready, in memory or in a memory-mapped file: a batch is one look-up.

    Args:
        pixels: Shape [n, C, H, W], uint8 in 0..white.
        labels: Shape [n], int64.
        white: Pixel value that means 1.0.
        failures: What is known about samples that could not be decoded: id -> (path, reason).
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        *,
        white: int = WHITE,
        failures: Mapping[int, tuple[str, str]] | None = None,
    ) -> None:
        if pixels.ndim != 4 or labels.shape != pixels.shape[:1]:
            raise DataError(
                "expected pixels [n, C, H, W] and labels [n], "
                f"got {list(pixels.shape)} and {list(labels.shape)}"
            )
        self.pixels, self.labels, self.white = pixels, labels, white
        self.failures = dict(failures or {})

    def __getitems__(self, ids: Sequence[int]) -> Pair:
        damaged = self.failures.keys() & set(ids)
        if damaged:
            raise DecodeError(*self.failures[min(damaged)])
        rows = np.asarray(ids, dtype=np.int64)
        return to_unit_range(self.pixels[rows], self.white), torch.from_numpy(self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """The samples of a split, before a model has said which size it wants.

    Args:
        labels: True classes, int64 [n].
        groups: Group column -> n values.
    """

    labels: np.ndarray
    groups: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def channels(self) -> int:
        """Colour channels of every image."""

    @abstractmethod
    def name(self, i: int) -> str:
        """What a human calls sample `i`."""

    @abstractmethod
    def planes(self, i: int, preprocessing: Preprocessing | None) -> np.ndarray:
        """Pixels of sample `i` in the size asked for: uint8 [C, H, W], 0..255."""

    def ready(self, preprocessing: Preprocessing | None) -> ImageDataset | None:
        """Dataset that needs no work per image, where the pixels stand ready in that size."""
        return None


@dataclass(frozen=True, kw_only=True)
class ArraySource(Source):
    """Images of one size in memory.

    Args:
        pixels: Shape [n, C, H, W], uint8 in 0..white.
        names: What a human calls each sample: `test_batch.bin#17`.
        white: Pixel value that means 1.0.
    """

    pixels: np.ndarray
    names: Sequence[str]
    white: int = WHITE

    @property
    def channels(self) -> int:
        """Colour channels of every image."""
        return int(self.pixels.shape[1])

    def name(self, i: int) -> str:
        """What a human calls sample `i`."""
        return self.names[i]

    def planes(self, i: int, preprocessing: Preprocessing | None) -> np.ndarray:
        """Pixels of sample `i`, stretched to 0..255."""
        pixels = self.pixels[i]
        if self.white != WHITE:
            pixels = np.rint(pixels * (WHITE / self.white)).astype(np.uint8)
        return fit_planes(pixels, preprocessing)

    def ready(self, preprocessing: Preprocessing | None) -> ImageDataset | None:
        """The arrays themselves, unless another size is asked for."""
        size = preprocessing.size if preprocessing else None
        if size is not None and tuple(size) != self.pixels.shape[2:]:
            return None
        return ArrayDataset(self.pixels, self.labels, white=self.white)

    def take(self, rows: np.ndarray) -> "ArraySource":
        """The samples `rows`, in that order."""
        return ArraySource(
            labels=self.labels[rows],
            pixels=self.pixels[rows],
            names=[self.names[row] for row in rows],
            white=self.white,
            groups={name: [column[row] for row in rows] for name, column in self.groups.items()},
        )


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """One image file a sample.

    Args:
        folder: Where the files are.
        names: Their paths below it, with forward slashes.
        border: Pixels to cut off on each side after decoding.
    """

    folder: Path
    names: Sequence[str]
    border: int = 0

    @property
    def channels(self) -> int:
        """Every file is decoded to RGB."""
        return 3

    def name(self, i: int) -> str:
        """Path below the dataset's folder."""
        return self.names[i]

    def planes(self, i: int, preprocessing: Preprocessing | None) -> np.ndarray:
        """Decode, resize and crop sample `i`."""
        image = decode(self.folder / self.names[i], border=self.border)
        return to_planes(fit(image, preprocessing))


class FittedDataset(ImageDataset):
    """Decodes or resizes every image each time it is asked for.

    Args:
        source: The samples.
        preprocessing: Size, crop and filter; None keeps the native size.
    """

    def __init__(self, source: Source, preprocessing: Preprocessing | None) -> None:
        self.source, self.preprocessing, self.labels = source, preprocessing, source.labels

    def __getitems__(self, ids: Sequence[int]) -> Pair:
        planes = [self.source.planes(i, self.preprocessing) for i in ids]
        shapes = {plane.shape for plane in planes}
        if len(shapes) > 1:
            raise DataError(
                f"expected images of one size in a batch, got {sorted(shapes)}; "
                "give the datamodule the model's preprocessing, or use batch_size=1"
            )
        labels = torch.from_numpy(self.labels[np.asarray(ids, dtype=np.int64)])
        return to_unit_range(np.stack(planes)), labels
