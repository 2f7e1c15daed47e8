"""Images and labels that a publisher offers as files of numpy."""

from pathlib import Path

import numpy as np

from core.errors import DataError
from datamodules.samples import ArraySource

SIDE = 32
"""Pixels a side of every relative of CIFAR."""


def read_array(path: Path, *, kinds: str, shape: tuple[int, ...]) -> np.ndarray:
    """Memory map of a numpy file.

    Args:
        path: The file.
        kinds: Numpy's letters for the kinds of numbers that are accepted, `iu`.
        shape: What it has to be; -1 = any length.

    Raises:
        DataError: No array, a truncated one, or one of another kind or shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged: expected a numpy array, got {error}") from error
    fits = len(array.shape) == len(shape) and all(
        wanted in (-1, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        raise DataError(
            f"{path}: expected an array {list(shape)} of kind {kinds!r}, "
            f"got {list(array.shape)} {array.dtype}"
        )
    return array


def read_images(path: Path) -> np.ndarray:
    """Memory map of images, uint8 [n, 32, 32, 3]."""
    images = read_array(path, kinds="u", shape=(-1, SIDE, SIDE, 3))
    if images.dtype != np.uint8 or not len(images):
        raise DataError(
            f"{path}: expected at least one image of uint8, got {len(images)} of {images.dtype}"
        )
    return images


def array_source(
    images: np.ndarray, labels: np.ndarray, file_name: str, *, first: int = 0
) -> ArraySource:
    """Samples of images [n, 32, 32, 3], named by their place in the file."""
    return ArraySource(
        pixels=np.ascontiguousarray(images.transpose(0, 3, 1, 2)),
        labels=labels,
        names=[f"{file_name}#{first + i}" for i in range(len(images))],
    )
