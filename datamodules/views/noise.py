"""Noise: lite corruptions that change each pixel on its own."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from datamodules.views.seeding import Draws
from datamodules.views.view import Kind

PUBLISHED = "the constants of CIFAR-10-C (small) and ImageNet-C (large), Hendrycks 2019"

WHITE = 255
POISSON_BITS = 22  # level and probability of a table entry fit into an int32 together
SHORT_BITS = 10


def gaussian_noise(images: Tensor, draws: Draws, *, sd: float) -> Tensor:
    """Add normal noise of standard deviation `sd`, in every channel its own."""
    return draws.normal(images.shape[1:]).mul_(sd).add_(images)


def speckle_noise(images: Tensor, draws: Draws, *, sd: float) -> Tensor:
    """Add normal noise of standard deviation `sd` times the pixel."""
    return draws.normal(images.shape[1:]).mul_(sd).add_(1).mul_(images)


def impulse_noise(images: Tensor, draws: Draws, *, share: float) -> Tensor:
    """Set a share of the values to 0 or 1, as many to either."""
    chance = draws.uniform(images.shape[1:])
    noisy = images.masked_fill(chance < share, 1.0)
    return noisy.masked_fill_(chance < share / 2, 0.0)


def shot_noise(images: Tensor, draws: Draws, *, photons: float) -> Tensor:
    """Count photons: a Poisson number of mean `photons` times the pixel, over `photons`.

    The mean is taken at the nearest of 256 brightnesses, so that the counts come from a table that
    is made on the CPU: no device rounds a probability another way.
    """
    levels = (images * WHITE).round().clamp_(0, WHITE).to(torch.int32)
    queries = (levels << POISSON_BITS) + (draws.integers(images.shape[1:]) >> (24 - POISSON_BITS))
    table, shortcut = (torch.from_numpy(part).to(images.device) for part in poisson_table(photons))
    # a search takes fifteen steps; nineteen of twenty values need none
    counts = shortcut[queries >> SHORT_BITS]
    searched = counts < 0
    places = torch.searchsorted(table, queries[searched], right=True, out_int32=True)
    counts[searched] = places - levels[searched] * (len(table) // (WHITE + 1))
    return counts.to(torch.float32) / photons


@lru_cache(maxsize=16)
def poisson_table(photons: float) -> tuple[np.ndarray, np.ndarray]:
    """Cumulated probabilities of the counts 0, 1, ... for each of 256 brightnesses.

    Returns:
        The table, ascending int32 [256 * counts]: brightness times 2**22, plus the probability of
        at most that count times 2**22, rounded down. And for each 1024 neighbouring numbers the
        count that they all stand for, or -1 where it is not the same.
    """
    counts = int(photons + 8 * np.sqrt(photons) + 16)
    rates = np.arange(WHITE + 1)[:, None] * (photons / WHITE)
    steps = np.log(np.maximum(rates, 1e-300)) - np.log(np.arange(1, counts))
    logarithms = np.concatenate([-rates, -rates + np.cumsum(steps, axis=1)], axis=1)
    cumulated = np.minimum(np.cumsum(np.exp(logarithms), axis=1), 1.0)
    whole = np.floor(cumulated * 2**POISSON_BITS).astype(np.int64)
    levels = np.arange(WHITE + 1, dtype=np.int64)[:, None] << POISSON_BITS
    table = (levels + whole).astype(np.int32).ravel()
    starts = np.arange((WHITE + 1) << (POISSON_BITS - SHORT_BITS)) << SHORT_BITS
    first = np.searchsorted(table, starts.astype(np.int32), side="right")
    last = np.searchsorted(table, (starts + (1 << SHORT_BITS) - 1).astype(np.int32), side="right")
    shortcut = np.where(first == last, first - (starts >> POISSON_BITS) * counts, -1)
    return table, shortcut.astype(np.int32)


KINDS = (
    Kind(
        name="gaussian_noise",
        apply=gaussian_noise,
        small={"sd": (0.04, 0.06, 0.08, 0.09, 0.10)},
        large={"sd": (0.08, 0.12, 0.18, 0.26, 0.38)},
        source=PUBLISHED,
    ),
    Kind(
        name="shot_noise",
        apply=shot_noise,
        small={"photons": (500.0, 250.0, 100.0, 75.0, 50.0)},
        large={"photons": (60.0, 25.0, 12.0, 5.0, 3.0)},
        source=PUBLISHED,
    ),
    Kind(
        name="impulse_noise",
        apply=impulse_noise,
        small={"share": (0.01, 0.02, 0.03, 0.05, 0.07)},
        large={"share": (0.03, 0.06, 0.09, 0.17, 0.27)},
        source=PUBLISHED,
    ),
    Kind(
        name="speckle_noise",
        apply=speckle_noise,
        small={"sd": (0.06, 0.10, 0.12, 0.16, 0.20)},
        large={"sd": (0.15, 0.20, 0.35, 0.45, 0.60)},
        source=PUBLISHED,
    ),
)
