"""Pictures of single samples, for whoever shows results."""

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from core.configuration import plain
from core.errors import ConfigError, DataError
from core.names import CLEAN, Split
from core.targets import build
from datamodules.base import ImageDataModule

THUMBNAIL = 128
"""Longest side of a thumbnail in pixels; a smaller picture stays as it is."""


def pictures_of(config: DictConfig) -> Callable[[str, int], np.ndarray]:
    """Function (datamodule, sample id) -> uint8 picture [H, W, 3] or [H, W] of the test split.

    Data is read when the first picture is asked for.
    """
    library = plain(config.dataset_library)

    @cache
    def datamodule(name: str) -> ImageDataModule:
        return build(library[name], expects=ImageDataModule)

    def picture(name: str, sample: int) -> np.ndarray:
        image, _ = datamodule(name).dataset("test")[sample]
        return _pixels(image)

    return picture


class Datasets:
    """The datasets that a stored run names, as far as they are on this machine.

    Args:
        library: Name -> entry of the dataset library, as the run's configuration holds it. A class
            outside the allowed packages is not built.
    """

    def __init__(self, library: Mapping[str, Any]) -> None:
        self._library = library
        self._built: dict[str, ImageDataModule] = {}

    def absence(self, datamodule: str, split: Split, dataset: str) -> str:
        """Why there are no pictures, as the end of a sentence; empty where there are.

        Args:
            datamodule: Name of the dataset.
            split: Which part of it.
            dataset: Digest of the data that was recorded; pictures of other data are refused.
        """
        try:
            found = self._datamodule(datamodule)
            faults = found.missing(split) if split in found.splits else [f"it has no {split}"]
            if faults:
                return "; ".join(faults)
            is_same = found.behind(CLEAN).manifest(split) == dataset
        except (ConfigError, DataError, OSError, ValueError, LookupError) as error:
            return " ".join(str(error).split())
        return "" if is_same else "the data here are others than those that were recorded"

    def thumbnail(self, datamodule: str, split: Split, sample: int) -> bytes | None:
        """PNG of a sample, None where it cannot be decoded."""
        try:
            image, _ = self._datamodule(datamodule).dataset(split)[sample]
        except DataError:
            return None
        picture = Image.fromarray(_pixels(image))
        picture.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = io.BytesIO()
        picture.save(stream, format="PNG", optimize=True)
        return stream.getvalue()

    def class_names(self, datamodule: str) -> list[str]:
        """Names of the classes in the order of the labels; empty where they cannot be known."""
        try:
            return self._datamodule(datamodule).classes
        except (ConfigError, DataError, OSError, ValueError, LookupError):
            return []  # `absence` tells why; the classes are then shown by their numbers

    def _datamodule(self, name: str) -> ImageDataModule:
        if name not in self._library:
            raise LookupError(f"the run does not say where {name} lies")
        if name not in self._built:
            entry = dict(self._library[name])
            if "download" in entry:
                entry["download"] = False  # a report fetches nothing
            self._built[name] = build(entry, expects=ImageDataModule)
        return self._built[name]


def _pixels(image: Tensor) -> np.ndarray:
    """Image [C, H, W] in [0, 1] as uint8, [H, W] or [H, W, 3]."""
    planes = (image * 255).round().byte().numpy()
    return planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)
