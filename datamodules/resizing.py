"""From an image of any size to the pixels a model asks for."""

import numpy as np
from PIL import Image

from core.preprocessing import Preprocessing

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Pillow's filters widen with the reduction, so a smaller image has no aliasing."""


def covering_size(height: int, width: int, box: tuple[int, int]) -> tuple[int, int]:
    """Smallest height and width of the same shape that cover `box`.

    The long side is rounded down, as in the published evaluations of torchvision.

    Example:
        >>> covering_size(300, 401, (256, 256))
        (256, 342)
    """
    if box[0] * width >= box[1] * height:
        return box[0], max(box[1], int(box[0] * width / height))
    return max(box[0], int(box[1] * height / width)), box[1]


def centre(outer: int, inner: int) -> int:
    """First kept pixel of a centred crop; half a pixel goes to the even neighbour."""
    return round((outer - inner) / 2)


def fit(image: Image.Image, preprocessing: Preprocessing | None) -> Image.Image:
    """Resize the short side and crop the centre; an image that has the size is left alone."""
    if preprocessing is None or preprocessing.size is None or preprocessing.resized is None:
        return image
    height, width = preprocessing.size
    if image.size == (width, height):
        return image
    tall, wide = covering_size(image.height, image.width, preprocessing.resized)
    if image.size != (wide, tall):
        image = image.resize((wide, tall), FILTERS[preprocessing.interpolation])
    top, left = centre(tall, height), centre(wide, width)
    return image.crop((left, top, left + width, top + height))


def fit_planes(planes: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """The same for an array: uint8 [C, H, W] of any number of channels to uint8 [C, h, w]."""
    return np.stack([np.asarray(fit(Image.fromarray(plane), preprocessing)) for plane in planes])


def to_planes(image: Image.Image) -> np.ndarray:
    """RGB image as contiguous uint8 [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
