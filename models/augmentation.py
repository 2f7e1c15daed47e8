"""Random changes of training images that keep the label true."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Shift every image by a random number of pixels and mirror half of them.

    Args:
        shift: Largest shift in pixels, in each direction; what comes in from outside is black.
        flip: Whether left and right are exchanged at random; digits do not survive it.
        generator: Where the randomness comes from; it advances.

    Example:
        >>> images = torch.rand(2, 3, 4, 4)
        >>> unchanged = Augmentation(generator=torch.Generator())(images)
        >>> torch.equal(images, unchanged)
        True
    """

    shift: int = 0
    flip: bool = False
    generator: torch.Generator

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"augmentation.shift is in pixels, 0 or more, got {self.shift}")

    def __call__(self, images: Tensor) -> Tensor:
        """New images, shape [B, K, H, W] as given."""
        if self.shift:
            images = self._shifted(images)
        if self.flip:
            mirrored = torch.rand(len(images), 1, 1, 1, generator=self.generator) < 0.5
            images = torch.where(mirrored.to(images.device), images.flip(-1), images)
        return images

    def _shifted(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        padded = F.pad(images, (self.shift,) * 4)
        offsets = torch.randint(2 * self.shift + 1, (2, batch), generator=self.generator)
        offsets = offsets.to(images.device)
        rows = offsets[0, :, None] + torch.arange(height, device=images.device)
        columns = offsets[1, :, None] + torch.arange(width, device=images.device)
        samples = torch.arange(batch, device=images.device)[:, None, None]
        # Indices around the channel dimension put it last.
        picked = padded[samples, :, rows[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2).contiguous()
