"""Whether features move with the image: ||phi(gx) - g phi(x)|| / ||phi(x)||."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NotApplicable


@dataclass(kw_only=True)
class EquivarianceError:
    """Mean distance of phi(gx) from g phi(x), over the mean length of g phi(x), in batches.

    Args:
        border: Rows and columns on each side that do not count: what a transformation fills in
            there, and what zero padding makes of it, is not the layer's doing.
        samples: How many were added.
        length: Sum of the lengths of what was added; 0 leaves nothing to compare with.

    Example:
        >>> found = EquivarianceError()
        >>> found.add(torch.full((1, 1, 2, 2), 3.0), moved=torch.full((1, 1, 2, 2), 2.0))
        >>> found.value
        0.5

    Reference:
        Lenc & Vedaldi, Understanding image representations by measuring their equivariance and
        equivalence (2015); Gruver et al., The Lie derivative for measuring learned equivariance
        (2022).
    """

    border: int = 0
    samples: int = 0
    length: float = 0.0
    _distance: float = 0.0

    def add(self, of_moved: Tensor, *, moved: Tensor) -> None:
        """Take features of moved images and moved features of the images, both [B, K, H, W]."""
        if of_moved.ndim != 4 or of_moved.shape != moved.shape:
            raise ValueError(
                "expected features [B, K, H, W] of moved images and moved features, "
                f"got {list(of_moved.shape)} and {list(moved.shape)}"
            )
        if 2 * self.border >= min(moved.shape[2:]):
            raise ValueError(
                f"border={self.border} leaves nothing of feature maps {list(moved.shape[2:])}"
            )
        found, expected = self._interior(of_moved), self._interior(moved)
        self._distance += (found - expected).norm(dim=1).sum().item()
        self.length += expected.norm(dim=1).sum().item()
        self.samples += len(moved)

    @property
    def value(self) -> float:
        """At least 0; 0 is exactly equivariant, about 1.4 unrelated; lower is more equivariant.

        Raises:
            NotApplicable: The features are zero everywhere.
        """
        if self.samples == 0:
            raise ValueError("no features were added: nothing to compare")
        if self.length == 0:
            raise NotApplicable("the features are zero for all samples")
        return self._distance / self.length

    def _interior(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        rows, columns = (slice(self.border, size - self.border) for size in (height, width))
        return features.detach()[:, :, rows, columns].double().flatten(start_dim=1)


def shift_error(
    features: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    shift: int,
    stride: int = 1,
    border: int = 0,
) -> float:
    """Equivariance error for images that are shifted in a circle, right and down.

    Args:
        features: Images -> feature maps [B, K, H / stride, W / stride]; called without gradients.
        images: Shape [B, K, H, W].
        shift: Pixels. Features have whole places, so it is a multiple of `stride`.
        stride: How many pixels of the image are one place of the features.
        border: Places on each side of the feature maps that do not count.

    Returns:
        At least 0; lower is more equivariant; exactly 0 for circular convolutions.

    Example:
        >>> images = torch.arange(16.0).view(1, 1, 4, 4)
        >>> shift_error(lambda images: 2 * images, images, shift=1)
        0.0
    """
    if stride < 1 or shift % stride:
        raise ValueError(f"shift is a multiple of stride, got shift={shift} and stride={stride}")
    found = EquivarianceError(border=border)
    with torch.no_grad():
        moved = _rolled(features(images), shift // stride)
        found.add(features(_rolled(images, shift)), moved=moved)
    return found.value


def _rolled(maps: Tensor, places: int) -> Tensor:
    return maps.roll((places, places), dims=(2, 3))
