"""The handwritten digits that ship inside scikit-learn: the embedded dataset, no download."""

import hashlib
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import numpy as np

from core.digest import digest
from core.names import SPLITS, Split
from datamodules.base import ImageDataModule
from datamodules.samples import ArraySource
from datamodules.splitting import stratified

SPLIT_SEED = 1797
"""Decides the split for ever: published weights were trained on this train part."""

FRACTIONS = {"test": 0.2, "val": 0.2, "train": 0.6}
"""Share of each class; `train` gets the rest."""

WHITE = 16
"""Pixel value that means 1.0: the original counts of ink in 4 x 4 blocks."""


@cache
def _arrays() -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [1797, 1, 8, 8] in 0..16 and labels int64 [1797]."""
    from sklearn.datasets import load_digits  # here: importing scikit-learn takes a second

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 1, 8, 8).astype(np.uint8), labels.astype(np.int64)


@cache
def _positions() -> dict[str, np.ndarray]:
    return stratified(_arrays()[1], fractions=FRACTIONS, seed=SPLIT_SEED)


class Digits(ImageDataModule):
    """1797 grey images of 8 x 8 pixels, ten classes, about 60 / 20 / 20 % train / val / test.

    Args:
        batch_size: Samples a batch.
        num_workers: Processes that read ahead.
        cache_pixels: Keep resized pixels in a file.
        seed: Order in which the train loader shuffles; the split does not depend on it.
    """

    library_name = "digits"
    channels = 1
    homepage: ClassVar[str] = "https://scikit-learn.org"

    def __init__(
        self,
        *,
        batch_size: int = 128,
        num_workers: int = 0,
        cache_pixels: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size, num_workers=num_workers, cache_pixels=cache_pixels, seed=seed
        )

    @property
    def splits(self) -> tuple[Split, ...]:
        """All three."""
        return SPLITS

    @property
    def classes(self) -> list[str]:
        """The ten digits."""
        return [str(digit) for digit in range(10)]

    def missing(self, split: Split) -> list[str]:
        """Nothing: scikit-learn is a dependency."""
        return []

    def digest(self, split: Split, *, verify: bool) -> str:
        """Digest of the arrays of the split."""
        source = self.read(split)
        hasher = hashlib.sha256(np.ascontiguousarray(source.pixels).tobytes())
        hasher.update(source.labels.astype("<i8").tobytes())
        identity: dict[str, Any] = {"reader": type(self).__name__, "white": WHITE, "split": split}
        return digest({**identity, "arrays": hasher.hexdigest()})

    def count_samples(self, split: Split) -> int:
        """Size of the part."""
        return len(_positions()[split])

    def read(self, split: Split) -> ArraySource:
        """The samples of the split, in the order scikit-learn has them."""
        pixels, labels = _arrays()
        names = [f"digits#{i}" for i in range(len(labels))]
        whole = ArraySource(pixels=pixels, labels=labels, names=names, white=WHITE)
        return whole.take(_positions()[split])


class DigitPairs(Digits):
    """Two different digits, one on top of the other: foreign, yet of the same strokes.

    Every image of the split is joined with the next one of another class, pixel by pixel the
    darker ink. The label is that of the first.

    Args:
        options: As in Digits.
    """

    library_name = "digit_pairs"

    def read(self, split: Split) -> ArraySource:
        """The samples of the split, each with its partner."""
        digits = super().read(split)
        partners = _partners(digits.labels)
        return replace(
            digits,
            pixels=np.maximum(digits.pixels, digits.pixels[partners]),
            names=[
                f"{one}+{other}"
                for one, other in zip(digits.names, digits.take(partners).names, strict=True)
            ],
        )


def _partners(labels: np.ndarray) -> np.ndarray:
    """For each position the next one, in a circle, that has another label."""
    count = len(labels)
    steps = [
        next(step for step in range(1, count) if labels[(i + step) % count] != labels[i])
        for i in range(count)
    ]
    return (np.arange(count) + steps) % count
