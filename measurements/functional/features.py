"""What the measurements of features share: refusals, pooling, the nearest neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SPARE = 8
"""Candidates beyond the k nearest, because fast distances of close points are inexact."""

VALUES_AT_ONCE = 2**22
"""Numbers of a block: 32 MB in float64."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest other samples of every sample, nearest first."""

    distances: Tensor  # [N, k] float64, Euclidean
    ids: Tensor  # [N, k] int64; of up to 8 equal distances too many the lower id comes first


def require_features(features: Tensor, *, at_least: int = 2) -> None:
    """Refuse what is no finite matrix [N, D] of at least `at_least` samples.

    Example:
        >>> require_features(torch.zeros(8, 3, 2, 2))
        Traceback (most recent call last):
        ...
        ValueError: expected features [N, D], got [8, 3, 2, 2]; flatten or pool feature maps first
    """
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(
            f"expected features [N, D], got {list(features.shape)}; "
            "flatten or pool feature maps first"
        )
    if len(features) < at_least:
        raise ValueError(f"expected at least {at_least} samples, got {len(features)}")
    if not features.isfinite().all():
        raise ValueError("expected finite features, got NaN or infinity; leave broken rows out")


def require_labelled_features(features: Tensor, labels: Tensor, *, at_least: int = 2) -> None:
    """Refuse features [N, D] and labels [N] that do not belong together.

    Example:
        >>> require_labelled_features(torch.zeros(8, 3), torch.zeros(8, 1))
        Traceback (most recent call last):
        ...
        ValueError: expected features [N, D] and labels [N], got [8, 3] and [8, 1]
    """
    if labels.shape != features.shape[:1]:
        raise ValueError(
            "expected features [N, D] and labels [N], "
            f"got {list(features.shape)} and {list(labels.shape)}"
        )
    require_features(features, at_least=at_least)


def pooled(outputs: Tensor, *, unit_dim: int) -> Tensor:
    """Means over places or tokens: features of what a layer puts out.

    Args:
        outputs: Shape [N, K, H, W], [N, T, D], [N, D] or the like.
        unit_dim: Dimension that is kept beside the first: 1 for maps, -1 for tokens.

    Returns:
        A new tensor [N, K], float32 or wider.

    Example:
        >>> pooled(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]), unit_dim=-1).tolist()
        [[2.0, 4.0]]
    """
    wide = outputs.detach().to(torch.promote_types(outputs.dtype, torch.float32), copy=True)
    by_unit = wide.movedim(unit_dim, 1)
    return by_unit.flatten(start_dim=2).mean(dim=2) if by_unit.ndim > 2 else by_unit


def nearest_neighbours(features: Tensor, *, k: int) -> Neighbours:
    """The `k` nearest other samples of every sample.

    Distances are those of the differences themselves, so a duplicate is at exactly 0. The N x N
    distances are never in memory together.

    Args:
        features: Shape [N, D], finite, N > k.
        k: Number of neighbours, at least 1.

    Example:
        >>> found = nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        >>> found.ids.flatten().tolist(), found.distances.flatten().tolist()
        ([1, 0, 1], [1.0, 1.0, 2.0])
    """
    if k < 1:
        raise ValueError(f"k is a number of neighbours, at least 1, got {k}")
    require_features(features, at_least=k + 1)
    points = features.detach().double()
    points = points - points.mean(dim=0)
    lengths = points.square().sum(dim=1)
    candidates = min(k + SPARE, len(points) - 1)
    step = max(1, VALUES_AT_ONCE // max(len(points), candidates * points.shape[1]))
    blocks = [
        _nearest_of(
            torch.arange(start, min(start + step, len(points))), points, lengths, candidates
        )
        for start in range(0, len(points), step)
    ]
    distances, ids = (torch.cat(parts)[:, :k] for parts in zip(*blocks, strict=True))
    return Neighbours(distances=distances, ids=ids)


def neighbours_of_any(features: Tensor, *, k: int) -> Callable[[Tensor], Tensor]:
    """The `k` nearest others among any samples; those of all samples are searched once.

    Args:
        features: Shape [N, D], finite, N > k.
        k: Number of neighbours, at least 1.

    Returns:
        Ids of some samples, int64, ascending, shape [M], M > k -> ids of their neighbours among
        them, nearest first, shape [M, k].

    Example:
        >>> among = neighbours_of_any(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        >>> among(torch.tensor([0, 2])).flatten().tolist()
        [2, 0]
    """
    require_features(features, at_least=k + 1)
    near = nearest_neighbours(features, k=min(2 * k + SPARE, len(features) - 1)).ids

    def among(ids: Tensor) -> Tensor:
        is_there = torch.zeros(len(features), dtype=torch.bool, device=near.device)
        is_there[ids] = True
        there = is_there[near[ids]]
        if there.sum(dim=1).min() < k:  # too many of a sample's neighbours are gone
            return ids[nearest_neighbours(features[ids], k=k).ids]
        order = there.int().sort(dim=1, descending=True, stable=True).indices
        return near[ids].gather(1, order[:, :k])

    return among


def _nearest_of(
    rows: Tensor, points: Tensor, lengths: Tensor, candidates: int
) -> tuple[Tensor, Tensor]:
    """Exact distances and ids of the `candidates` nearest of some rows, nearest first."""
    rows = rows.to(points.device)
    squared = torch.addmm(lengths, points[rows], points.T, alpha=-2)  # less each row's own length
    squared[torch.arange(len(rows), device=points.device), rows] = torch.inf
    ids = squared.topk(candidates, dim=1, largest=False).indices.sort(dim=1).values
    exact = (points[ids] - points[rows].unsqueeze(1)).norm(dim=2)
    distances, order = exact.sort(dim=1, stable=True)
    return distances, ids.gather(1, order)
