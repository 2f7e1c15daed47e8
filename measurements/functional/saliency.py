"""Saliency: which pixels move the decision, and are they the same for two models?"""

import torch
from torch import Tensor


def saliency_maps(gradients: Tensor) -> Tensor:
    """Largest size of the gradient over the channels of each pixel.

    Args:
        gradients: Of a score with respect to the images, shape [N, K, H, W].

    Returns:
        Shape [N, H W], at least 0.

    Example:
        >>> saliency_maps(torch.tensor([[[[1.0, 0.0]], [[-3.0, 2.0]]]])).tolist()
        [[3.0, 2.0]]

    Reference:
        Simonyan et al., Deep inside convolutional networks (2014).
    """
    if gradients.ndim != 4:
        raise ValueError(f"expected gradients [N, K, H, W], got {list(gradients.shape)}")
    return gradients.detach().abs().amax(dim=1).flatten(start_dim=1)


def saliency_cosine(maps: Tensor, others: Tensor) -> Tensor:
    """Cosine of two saliency maps of every image.

    Args:
        maps: Shape [N, P]; no row is all zero.
        others: Of the same images, shape [N, P].

    Returns:
        Float64 [N], in [0, 1] for maps without negative values; higher is more alike.

    Example:
        >>> saliency_cosine(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])).item()
        0.96
    """
    _require_pair(maps, others)
    first, second = (
        each.double() / each.double().norm(dim=1, keepdim=True) for each in (maps, others)
    )
    return (first * second).sum(dim=1)


def top_overlap(maps: Tensor, others: Tensor, *, share: float) -> Tensor:
    """Share of the most salient pixels that are the same in two maps of every image.

    Args:
        maps: Shape [N, P].
        others: Of the same images, shape [N, P].
        share: Part of the pixels that are the most salient, in (0, 1]; at least one is.

    Returns:
        Float64 [N] in [0, 1]; higher is more alike; about `share` by chance. Of equal values the
        pixel that comes first counts as more salient.

    Example:
        >>> maps = torch.tensor([[4.0, 3.0, 1.0, 0.0]])
        >>> top_overlap(maps, torch.tensor([[4.0, 0.0, 1.0, 0.5]]), share=0.5).tolist()
        [0.5]
    """
    _require_pair(maps, others)
    if not 0 < share <= 1:
        raise ValueError(f"share is a part of the pixels, in (0, 1], got {share}")
    pixels = max(1, round(share * maps.shape[1]))
    first, second = (_most_salient(each, pixels) for each in (maps, others))
    return (first & second).double().sum(dim=1) / pixels


def _most_salient(maps: Tensor, pixels: int) -> Tensor:
    chosen = maps.sort(dim=1, descending=True, stable=True).indices[:, :pixels]
    return torch.zeros_like(maps, dtype=torch.bool).scatter_(1, chosen, value=True)


def _require_pair(maps: Tensor, others: Tensor) -> None:
    if maps.ndim != 2 or maps.shape != others.shape or not maps.numel():
        raise ValueError(
            f"expected two maps [N, P] of one shape, got {list(maps.shape)}, {list(others.shape)}"
        )
