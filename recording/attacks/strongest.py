"""The best of what a search has tried, for each sample on its own."""

import torch
from torch import Tensor


class Strongest:
    """Of the images offered, for each sample that with the lowest margin; the first of equals.

    Args:
        images: The first ones, shape [B, K, H, W].
        margins: Of these, shape [B].
    """

    def __init__(self, images: Tensor, margins: Tensor) -> None:
        self.images, self.margins = images, margins

    @property
    def are_all_wrong(self) -> bool:
        """Whether the model is deceived about every sample."""
        return bool((self.margins < 0).all())

    def offer(self, images: Tensor, margins: Tensor) -> None:
        """Take what is stronger."""
        better = margins < self.margins
        self.images = torch.where(better.view(-1, 1, 1, 1), images, self.images)
        self.margins = torch.where(better, margins, self.margins)
