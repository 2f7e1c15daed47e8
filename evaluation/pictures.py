"""Pictures of single samples, for whoever shows results."""

from collections.abc import Callable
from functools import cache

import numpy as np
from omegaconf import DictConfig

from core.configuration import plain
from core.targets import build
from datamodules.base import ImageDataModule


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
        planes = (image * 255).round().byte().numpy()
        return planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0)

    return picture
