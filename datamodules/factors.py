"""Images whose every property is known: what a picture shows, and how, as numbers."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np

from core.digest import digest
from core.names import Split
from datamodules.base import ImageDataModule
from datamodules.samples import ArraySource

VERSION = 1
"""Raise it when the same factors give other pixels."""

SIDE = 32
"""Pixels a side of a generated image."""

FINE = 4
"""Points a pixel is sampled at, along each side."""

UNITS = 2 * FINE
"""Steps of a pixel in which positions are whole numbers, so that every machine draws the same."""

VALUES: Mapping[str, tuple[Any, ...]] = {
    "shape": ("square", "disc", "triangle"),
    "size": (4, 6, 8),  # half a side or the radius, in pixels
    "x": (10, 13, 16, 19, 22),  # of the centre, in pixels from the left
    "y": (10, 13, 16, 19, 22),  # from the top
    "brightness": (72, 133, 194, 255),
}
"""Factor -> its values; every combination is drawn once, the last factor changing fastest."""


class FactorDataModule(ImageDataModule):
    """Base of datasets with known factors; the shape is the label, which no classifier knows."""

    foreign = True
    ordered: ClassVar[tuple[str, ...]]
    """Factors whose values have an order, such as sizes and positions."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """A test set only."""
        return ("test",)

    @abstractmethod
    def factors(self, split: Split) -> dict[str, np.ndarray]:
        """Factor -> index of its value for every sample, int64 [n]; each factor varies."""


class Factors(FactorDataModule):
    """A square, a disc or a triangle, in three sizes, 25 places and four shades: 900 grey images.

    They are drawn, so nothing has to be on disk.

    Args:
        batch_size: Samples a batch.
        num_workers: Processes that read ahead.
        cache_pixels: Keep resized pixels in a file.
    """

    library_name = "factors"
    ordered: ClassVar[tuple[str, ...]] = ("size", "x", "y", "brightness")

    def __init__(
        self, *, batch_size: int = 128, num_workers: int = 0, cache_pixels: bool = False
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, cache_pixels=cache_pixels)

    @property
    def classes(self) -> list[str]:
        """The shapes."""
        return list(VALUES["shape"])

    def missing(self, split: Split) -> list[str]:
        """Nothing: the images are drawn."""
        return []

    def digest(self, split: Split, *, verify: bool) -> str:
        """Digest of what decides the images."""
        return digest(
            ["Factors", VERSION, SIDE, FINE, {name: list(VALUES[name]) for name in VALUES}]
        )

    def count_samples(self, split: Split) -> int:
        """All combinations."""
        return int(np.prod([len(values) for values in VALUES.values()]))

    def factors(self, split: Split) -> dict[str, np.ndarray]:
        """All five."""
        grid = np.indices([len(values) for values in VALUES.values()], dtype=np.int64)
        return dict(zip(VALUES, grid.reshape(len(VALUES), -1), strict=True))

    def read(self, split: Split) -> ArraySource:
        """Draw every combination."""
        factors = self.factors(split)
        groups = {
            name: [str(VALUES[name][index]) for index in indices]
            for name, indices in factors.items()
        }
        return ArraySource(
            pixels=_drawn(),
            labels=factors["shape"],
            names=["-".join(values) for values in zip(*groups.values(), strict=True)],
            groups=groups,
        )


@cache
def _drawn() -> np.ndarray:
    """Uint8 [900, 1, 32, 32]."""
    covered = [
        _coverage(shape, size, x, y)
        for shape in VALUES["shape"]
        for size in VALUES["size"]
        for x in VALUES["x"]
        for y in VALUES["y"]
    ]
    shades = np.array(VALUES["brightness"]).reshape(1, -1, 1, 1)
    pixels = np.stack(covered)[:, None] * shades // FINE**2
    return pixels.reshape(-1, 1, SIDE, SIDE).astype(np.uint8)


def _coverage(shape: str, size: int, x: int, y: int) -> np.ndarray:
    """How many points of each pixel a shape covers, int [32, 32] in 0..16."""
    points = np.arange(1, SIDE * UNITS, 2)
    right, down, reach = points - x * UNITS, (points - y * UNITS)[:, None], size * UNITS
    inside = {
        "square": np.maximum(abs(right), abs(down)) < reach,
        "disc": right**2 + down**2 < reach**2,
        "triangle": (2 * abs(right) < down + reach) & (down < reach),
    }[shape]
    return inside.reshape(SIDE, FINE, SIDE, FINE).sum(axis=(1, 3))
