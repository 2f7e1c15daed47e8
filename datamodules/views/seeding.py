"""Random numbers that belong to a sample, not to the moment they are drawn.

Number k of a sample is a hash of (sample id, view, purpose, k). So an image comes out the same for
any batch size, order, number of workers or processes, and device, and no generator of the process
is touched.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

GENERATOR = "splitmix64"
"""Part of what identifies a seeded view."""


def _signed(word: int) -> int:
    """A 64-bit word as torch holds it."""
    return word - (1 << 64) if word >= 1 << 63 else word


STEP = _signed(0x9E3779B97F4A7C15)  # the golden ratio times 2**64, made odd
ROUNDS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)), (31, 1))
MANTISSA_BITS = 24  # a float32 holds every multiple of 2**-24 in [0, 1)


def mixed(words: Tensor) -> Tensor:
    """Spread every bit of each int64 word over the whole word; a bijection.

    Reference:
        Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, figure 17.
    """
    for shift, factor in ROUNDS:
        # torch shifts the sign in from the left; the mask takes it away
        words = words ^ ((words >> shift) & ((1 << (64 - shift)) - 1))
        words *= factor
    return words


def text_word(text: str) -> int:
    """64 bits that stand for a text, the same in every process."""
    return _signed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch of samples.

    Args:
        seeds: One int64 word a sample, shape [B].
    """

    seeds: Tensor

    @classmethod
    def of(cls, ids: Tensor, view: str) -> "Draws":
        """Numbers of the samples `ids` [B] in a view."""
        return cls(mixed(mixed(ids.to(torch.int64) + STEP) + text_word(view)))

    def words(self, count: int, purpose: str = "") -> Tensor:
        """Int64 words, shape [B, count]: the first `count` outputs of SplitMix64.

        Args:
            count: Words a sample.
            purpose: Numbers for different purposes have nothing to do with each other.

        Example:
            >>> [hex(word & (2**64 - 1)) for word in Draws(torch.tensor([0])).words(2)[0].tolist()]
            ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
        """
        seeds = mixed(self.seeds ^ text_word(purpose)) if purpose else self.seeds
        steps = torch.arange(1, count + 1, device=seeds.device) * STEP
        return mixed(seeds[:, None] + steps)

    def integers(self, shape: tuple[int, ...], purpose: str = "") -> Tensor:
        """Int32 in 0..2**24 - 1, all equally likely, shape [B, *shape]."""
        count = math.prod(shape)
        halves = self.words((count + 1) // 2, purpose).view(torch.int32)
        numbers = (halves[:, :count] >> (32 - MANTISSA_BITS)) & ((1 << MANTISSA_BITS) - 1)
        return numbers.reshape(-1, *shape)

    def uniform(self, shape: tuple[int, ...], purpose: str = "") -> Tensor:
        """Float32 in [0, 1), shape [B, *shape]; multiples of 2**-24, equal on every device."""
        return self.integers(shape, purpose).to(torch.float32).mul_(2.0**-MANTISSA_BITS)

    def normal(self, shape: tuple[int, ...], purpose: str = "") -> Tensor:
        """Float32 of mean 0 and standard deviation 1, shape [B, *shape]; at most 5.77 from 0.

        Reference:
            Box, Muller: A note on the generation of random normal deviates, 1958.
        """
        count = math.prod(shape)
        pairs = (count + 1) // 2
        length, turn = self.uniform((2, pairs), purpose).unbind(1)
        radius = (1 - length).log_().mul_(-2).sqrt_()
        angle = turn * (2 * math.pi)
        numbers = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return numbers[:, :count].reshape(-1, *shape)
