"""Transformations of a known size, the same for every sample: what a model may be invariant to.

What comes into sight beyond the edge repeats it: black corners would be a change of their own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.views.filtering import picked, pixel_grid, sampled, zoomed


def rotated(images: Tensor, degrees: int) -> Tensor:
    """Turn counter-clockwise about the centre; square images turn by 90 degrees exactly."""
    height, width = images.shape[-2:]
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    rows, columns = pixel_grid(images)
    rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
    return sampled(
        images,
        (height - 1) / 2 + rows * cosine + columns * sine,
        (width - 1) / 2 + columns * cosine - rows * sine,
    )


def shifted(images: Tensor, pixels: int) -> Tensor:
    """Move down and to the right by whole pixels; the first row and column are repeated."""
    _require_room(images, pixels)
    rows, columns = (grid.to(torch.int64) for grid in pixel_grid(images))
    rows, columns = torch.broadcast_tensors(
        (rows - pixels).clamp_min(0), (columns - pixels).clamp_min(0)
    )
    return picked(images, rows, columns)


def rolled(images: Tensor, pixels: int) -> Tensor:
    """Move down and to the right in a circle: what leaves at one edge comes in at the other."""
    _require_room(images, pixels)
    return images.roll((pixels, pixels), dims=(2, 3))


def flipped(images: Tensor, magnitude: int) -> Tensor:
    """Swap left and right."""
    return images.flip(3)


def scaled(images: Tensor, percent: int) -> Tensor:
    """Enlarge about the centre to `percent` of the size; below 100, reduce."""
    return zoomed(images, percent / 100)


def brightened(images: Tensor, percent: int) -> Tensor:
    """Multiply each pixel."""
    return images * (percent / 100)


def contrasted(images: Tensor, percent: int) -> Tensor:
    """Multiply each pixel's distance to the mean of its channel in the image."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return mean + (images - mean) * (percent / 100)


def _require_room(images: Tensor, pixels: int) -> None:
    height, width = images.shape[-2:]
    if pixels >= min(height, width):
        raise ValueError(
            f"expected a shift below the shorter side of {height} x {width} pixels, got {pixels}"
        )


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of transformation and the magnitudes it takes.

    Args:
        name: Before the magnitude, `rotate`.
        apply: Function (images, magnitude) -> images.
        unit: Of the magnitude; "" = it has none, and the name stands alone.
        low: Least magnitude.
        high: Greatest magnitude.
        example: A magnitude, to be suggested.
    """

    name: str
    apply: Callable[[Tensor, int], Tensor]
    unit: str = ""
    low: int = 1
    high: int = 1
    example: int = 1

    @property
    def grammar(self) -> str:
        """How its views are called."""
        return f"{self.name}_<{self.unit} {self.low}..{self.high}>" if self.unit else self.name

    @property
    def example_name(self) -> str:
        """One of its views."""
        return f"{self.name}_{self.example}" if self.unit else self.name


FAMILIES = (
    Family(name="rotate", apply=rotated, unit="degrees", high=359, example=15),
    Family(name="shift", apply=shifted, unit="pixels", high=999, example=2),
    Family(name="roll", apply=rolled, unit="pixels", high=999, example=2),
    Family(name="flip", apply=flipped),
    Family(name="scale", apply=scaled, unit="percent", low=10, high=400, example=110),
    Family(name="brightness_by", apply=brightened, unit="percent", high=400, example=120),
    Family(name="contrast_by", apply=contrasted, unit="percent", high=400, example=80),
)
