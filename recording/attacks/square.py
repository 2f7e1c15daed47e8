"""An attack that only asks: squares of changed colour, kept where they help."""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datamodules.views.seeding import GENERATOR, Draws
from recording.attacks.attack import Attack, Attacked
from recording.attacks.balls import Linf
from recording.attacks.objective import Classify, margins
from recording.attacks.strongest import Strongest

FIRST_SHARE = 0.8
"""Share of the image that the first squares cover."""

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, out of 10,000, after which the share is halved."""


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search without gradients: it works on rounded, quantised and foreign models alike.

    It begins with vertical stripes. A sample that is classified wrongly is left as it is.

    Args:
        queries: Images the model is asked about, the stripes included, a sample.

    Reference:
        Andriushchenko et al., Square attack (2020), algorithms 1 and 2, with the margin loss and
        the first share of Croce & Hein (2020).
    """

    kind = "square"
    norm = Linf.norm
    options: ClassVar[Mapping[str, str]] = {"q": "queries"}

    queries: int = 5000

    def parameters(self) -> dict[str, Any]:
        """With the schedule and the generator."""
        more = {"first_share": FIRST_SHARE, "halved_after": list(HALVED_AFTER)}
        return {**super().parameters(), **more, "loss": "margin", "generator": GENERATOR}

    @torch.no_grad()
    def changed(self, classify: Classify, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        """Stripes, then squares."""
        draws = Draws.of(ids, self.kind)
        found = Strongest(images, margins(classify(images), labels))
        for query in range(self.queries):
            if found.are_all_wrong:
                break
            signs = self._signs(draws, images, query)
            if query:
                side = side_of(query, self.queries, images.shape)
                inside = squares(draws, images.shape, side, f"place {query}")
                changed = torch.where(inside, images + self.eps * signs, found.images)
            else:
                changed = images + self.eps * signs
            changed = Linf().project(changed, images, self.eps)
            is_done = found.margins < 0
            there = margins(classify(changed), labels).masked_fill(is_done, torch.inf)
            found.offer(changed, there)
        return Attacked(images=found.images)

    @staticmethod
    def _signs(draws: Draws, images: Tensor, query: int) -> Tensor:
        """-1 or 1 for each channel, and of the stripes also for each column: [B, K, 1, 1 or W]."""
        _, channels, _, width = images.shape
        shape = (channels, 1, 1 if query else width)
        return (draws.uniform(shape, f"sign {query}") < 0.5).to(images.dtype) * 2 - 1


def side_of(query: int, queries: int, shape: torch.Size) -> int:
    """Side in pixels of the squares of a query, 1 or more.

    Example:
        >>> shape = torch.Size([1, 3, 10, 10])
        >>> [side_of(query, 100, shape) for query in (1, 2, 11, 99)]
        [4, 4, 2, 1]
    """
    height, width = shape[-2:]
    halvings = bisect.bisect_left(HALVED_AFTER, query * 10_000 // queries)
    side = round(math.sqrt(FIRST_SHARE / 2**halvings * height * width))
    return min(max(side, 1), height, width)


def squares(draws: Draws, shape: torch.Size, side: int, purpose: str) -> Tensor:
    """One square of `side` pixels in each image, anywhere within it: bool [B, 1, H, W]."""
    spans = []
    for length, chance in zip(shape[-2:], draws.uniform((2,), purpose).unbind(1), strict=True):
        first = (chance * (length - side + 1)).long()[:, None]
        pixel = torch.arange(length, device=first.device)
        spans.append((pixel >= first) & (pixel < first + side))
    rows, columns = spans
    return (rows[:, :, None] & columns[:, None, :])[:, None]
