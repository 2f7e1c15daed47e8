"""Splits and random numbers that depend on a sample's id alone, never on order or on seeds."""

import numpy as np
import torch
from torch import Tensor

FOLD_SALT = 1
"""Decides for ever which half a sample belongs to."""


def hashed_uniforms(sample_ids: Tensor, *, salt: int) -> Tensor:
    """A number in [0, 1) a sample, spread evenly, the same in every run and every resample.

    Args:
        sample_ids: Positions in the split, int64, shape [N], not negative.
        salt: Other salts give independent numbers.

    Returns:
        Float64 [N], multiples of 2^-53.

    Example:
        >>> first, again = hashed_uniforms(torch.tensor([7, 7]), salt=1).tolist()
        >>> first == again, 0 <= first < 1
        (True, True)

    Reference:
        Steele, Lea & Flood, Fast splittable pseudorandom number generators (2014): the mixing of
        SplitMix64, applied twice, to the salt and then to salt and id.
    """
    ids = sample_ids.cpu().numpy().astype(np.uint64)
    mixed = _mix(ids ^ _mix(np.full(1, salt, dtype=np.uint64)))
    return torch.from_numpy((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def second_half(sample_ids: Tensor) -> Tensor:
    """Whether a sample belongs to the second of two random halves, bool [N].

    Example:
        >>> int(second_half(torch.arange(10_000)).sum())  # 5000 +- 50
        5033
    """
    return hashed_uniforms(sample_ids, salt=FOLD_SALT) >= 0.5


def _mix(words: np.ndarray) -> np.ndarray:
    words = words + np.uint64(0x9E3779B97F4A7C15)  # arrays wrap around without a warning
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
