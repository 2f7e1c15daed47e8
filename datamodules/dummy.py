"""Seeded random images of any size: for tests and benchmarks, and as foreign images."""

from collections.abc import Sequence

import numpy as np

from core.digest import digest
from core.names import SPLITS, Split
from datamodules.base import ImageDataModule
from datamodules.samples import ArraySource

VERSION = 1
"""Raise it when the same arguments give other pixels."""


class Dummy(ImageDataModule):
    """Uniform noise; classes take turns, so every class has its share.

    Args:
        samples: Images in each split.
        size: Height and width in pixels.
        channels: Colour channels.
        num_classes: Classes, named `class_0`, `class_1`, ...
        data_seed: Which noise.
        entry: Name of the entry in the dataset library, for messages.
        batch_size: Samples a batch.
        num_workers: Processes that read ahead.
        cache_pixels: Keep resized pixels in a file.
        seed: Order in which the train loader shuffles.
    """

    def __init__(
        self,
        *,
        samples: int = 64,
        size: Sequence[int] = (32, 32),
        channels: int = 3,
        num_classes: int = 10,
        data_seed: int = 0,
        entry: str = "dummy",
        batch_size: int = 128,
        num_workers: int = 0,
        cache_pixels: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, cache_pixels=cache_pixels, seed=seed
        )
        self.library_name = entry
        self.samples = samples
        self.size = tuple(size)
        self.channels = channels
        self.class_count = num_classes
        self.data_seed = data_seed

    @property
    def splits(self) -> tuple[Split, ...]:
        """All three."""
        return SPLITS

    @property
    def classes(self) -> list[str]:
        """Made-up names."""
        return [f"class_{i}" for i in range(self.class_count)]

    def wrong_options(self) -> list[str]:
        """Counts below one."""
        counts = {
            "samples": self.samples,
            "size": min(self.size),
            "channels": self.channels,
            "num_classes": self.class_count,
        }
        return [
            f"expected dataset_library.{self.library_name}.{key} of at least 1, got {count}"
            for key, count in counts.items()
            if count < 1
        ]

    def missing(self, split: Split) -> list[str]:
        """Nothing: the images are made."""
        return []

    def digest(self, split: Split, *, verify: bool) -> str:
        """Digest of the arguments that decide the images."""
        shape = [self.samples, self.channels, *self.size]
        values = ["Dummy", VERSION, split, self.data_seed, shape, self.class_count]
        return digest(values)

    def count_samples(self, split: Split) -> int:
        """As asked for."""
        return self.samples

    def read(self, split: Split) -> ArraySource:
        """Make the images of a split; needs samples x channels x height x width bytes."""
        shape = (self.samples, self.channels, *self.size)
        stream = np.random.PCG64([self.data_seed, SPLITS.index(split)])
        # Raw bits: numpy promises those of a bit generator for ever, not those of a distribution.
        words = stream.random_raw(-(-int(np.prod(shape)) // 8)).astype("<u8")
        return ArraySource(
            pixels=words.view(np.uint8)[: int(np.prod(shape))].reshape(shape),
            labels=np.arange(self.samples, dtype=np.int64) % self.class_count,
            names=[f"{split}#{i}" for i in range(self.samples)],
        )
