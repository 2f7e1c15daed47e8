"""Patches of the two photographs that ship inside scikit-learn: foreign images, no download."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from core.digest import digest
from core.names import SPLITS, Split
from datamodules.base import ImageDataModule
from datamodules.samples import ArraySource

VERSION = 1
"""Raise it when the same arguments give other pixels."""

PHOTOGRAPHS = ("china", "flower")

HEIGHT, WIDTH = 427, 640
"""Pixels of both photographs."""

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in grey, ITU-R BT.601."""


@cache
def _photographs() -> np.ndarray:
    """Uint8 [2, 427, 640, 3], in the order of `PHOTOGRAPHS`."""
    from sklearn.datasets import load_sample_image  # here: importing scikit-learn takes a second

    return np.stack([load_sample_image(f"{name}.jpg") for name in PHOTOGRAPHS])


class Textures(ImageDataModule):
    """Small patches of a Chinese temple and of a flower; none overlaps another.

    Args:
        samples: Images in each split, spread evenly over both photographs.
        size: Height and width of a patch in pixels.
        channels: 1 for grey, 3 for colour.
        batch_size: Samples a batch.
        num_workers: Processes that read ahead.
        cache_pixels: Keep resized pixels in a file.
        seed: Order in which the train loader shuffles.
    """

    library_name = "textures"

    def __init__(
        self,
        *,
        samples: int = 360,
        size: Sequence[int] = (8, 8),
        channels: int = 1,
        batch_size: int = 128,
        num_workers: int = 0,
        cache_pixels: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, cache_pixels=cache_pixels, seed=seed
        )
        self.samples = samples
        self.size = tuple(size)
        self.channels = channels

    @property
    def splits(self) -> tuple[Split, ...]:
        """All three: every third patch each."""
        return SPLITS

    @property
    def classes(self) -> list[str]:
        """The photographs."""
        return list(PHOTOGRAPHS)

    @property
    def most(self) -> int:
        """Patches there are for each split."""
        rows, columns = HEIGHT // self.size[0], WIDTH // self.size[1]
        return len(PHOTOGRAPHS) * rows * columns // len(SPLITS)

    def wrong_options(self) -> list[str]:
        """Channels that do not exist, patches that are empty, more than there are."""
        key = f"dataset_library.{self.library_name}"
        if self.channels not in (1, 3):
            return [f"expected {key}.channels of 1 or 3, got {self.channels}"]
        if len(self.size) != 2 or min(self.size) < 1:
            return [f"expected {key}.size as height and width, got {list(self.size)}"]
        if not 1 <= self.samples <= self.most:
            size = " x ".join(map(str, self.size))
            return [
                f"expected {key}.samples in 1..{self.most}, the patches of {size} pixels there "
                f"are, got {self.samples}"
            ]
        return []

    def missing(self, split: Split) -> list[str]:
        """Nothing: scikit-learn is a dependency."""
        return []

    def digest(self, split: Split, *, verify: bool) -> str:
        """Digest of the arguments that decide the images."""
        return digest(["Textures", VERSION, split, self.samples, self.size, self.channels])

    def count_samples(self, split: Split) -> int:
        """As asked for."""
        return self.samples

    def read(self, split: Split) -> ArraySource:
        """Cut the patches of a split."""
        patches = self._patches()
        mine = np.arange(SPLITS.index(split), len(SPLITS) * self.most, len(SPLITS))
        chosen = mine[np.arange(self.samples) * self.most // self.samples]
        return ArraySource(
            pixels=np.ascontiguousarray(patches[chosen]),
            labels=chosen // (len(patches) // len(PHOTOGRAPHS)),
            names=[f"textures#{i}" for i in chosen],
        )

    def _patches(self) -> np.ndarray:
        """Uint8 [n, C, h, w]: photograph by photograph, row by row."""
        height, width = self.size
        pixels = _photographs()
        if self.channels == 1:
            pixels = np.rint(pixels @ np.array(LUMA))[..., None].astype(np.uint8)
        rows, columns = HEIGHT // height, WIDTH // width
        inside = pixels[:, : rows * height, : columns * width]
        cut = inside.reshape(len(pixels), rows, height, columns, width, self.channels)
        return cut.transpose(0, 1, 3, 5, 2, 4).reshape(-1, self.channels, height, width)
