"""Out-of-distribution scores from features: how far is a sample from those the model learned on?

Everywhere a higher score means more in-distribution, as in `measurements.functional.ood`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from measurements.functional.features import (
    SPARE,
    VALUES_AT_ONCE,
    require_features,
    require_labelled_features,
)


def knn_scores(features: Tensor, *, reference: Tensor, k: int) -> Tensor:
    """Minus the distance to the k-th nearest reference sample, all features scaled to length 1.

    Args:
        features: Samples to score, shape [M, D].
        reference: Samples the model was trained on, shape [N, D].
        k: Which neighbour, in [1, N].

    Returns:
        Float64 [M] in [-2, 0].

    Example:
        >>> reference = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> knn_scores(torch.tensor([[3.0, 0.0]]), reference=reference, k=2)  # -sqrt(2)
        tensor([-1.4142], dtype=torch.float64)

    Reference:
        Sun et al., Out-of-distribution detection with deep nearest neighbors (2022), equation 2.
    """
    _require_same_width(features, reference)
    if not 1 <= k <= len(reference):
        raise ValueError(f"expected k in 1..{len(reference)}, the reference samples, got {k}")
    units, others = (functional.normalize(x.double(), dim=1) for x in (features, reference))
    return -_distance_to(others, units, k=k)


def mahalanobis_scores(features: Tensor, *, reference: Tensor, labels: Tensor) -> Tensor:
    """Minus the squared Mahalanobis distance to the nearest class mean.

    All classes share one covariance, that of the reference samples about the means of their
    classes. Directions in which these do not vary are left out.

    Args:
        features: Samples to score, shape [M, D].
        reference: Samples the model was trained on, shape [N, D].
        labels: Their classes, int64 [N].

    Returns:
        Float64 [M], at most 0.

    Example:
        >>> reference = torch.tensor([[-1.0], [1.0], [9.0], [11.0]])  # means 0 and 10, variance 1
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> scores = mahalanobis_scores(torch.tensor([[3.0]]), reference=reference, labels=labels)
        >>> round(scores.item(), 4)
        -9.0

    Reference:
        Lee et al., A simple unified framework for detecting out-of-distribution samples and
        adversarial attacks (2018), equations 1 and 2; no input preprocessing, last features only.
    """
    _require_same_width(features, reference)
    require_labelled_features(reference, labels)
    reference = reference.double()
    _, codes = labels.unique(return_inverse=True)
    sums = torch.zeros(int(codes.max()) + 1, reference.shape[1], dtype=torch.float64)
    means = sums.index_add(0, codes, reference) / codes.bincount()[:, None]
    residuals = reference - means[codes]
    whitening = _whitening(residuals.T @ residuals / len(residuals))
    middle = means.mean(dim=0)
    white, centres = ((x.double() - middle) @ whitening for x in (features, means))
    return -_distance_to(centres, white, k=1).square()


def _distance_to(others: Tensor, points: Tensor, *, k: int) -> Tensor:
    """Distance [M] of points [M, D] to the k-th nearest of others [N, D].

    Squared distances by products find the candidates; differences give the distance, so that a
    duplicate is at exactly 0. Where more than 8 others are as far as the k-th up to rounding, any
    of them may be it.
    """
    lengths = others.square().sum(dim=1)
    last = min(k + SPARE, len(others))
    first = max(0, k - 1 - SPARE)
    step = max(1, VALUES_AT_ONCE // max(len(others), (last - first) * others.shape[1]))
    found = []
    for block in points.split(step):
        squared = torch.addmm(lengths, block, others.T, alpha=-2)  # less each row's own length
        near = squared.topk(last, dim=1, largest=False).indices[:, first:]
        exact = (others[near] - block.unsqueeze(1)).norm(dim=2)
        found.append(exact.kthvalue(k - first, dim=1).values)
    return torch.cat(found)


def _whitening(covariance: Tensor) -> Tensor:
    """Root W of the pseudo-inverse of `covariance` [D, D]: W W^T inverts it where it is not 0."""
    values, vectors = torch.linalg.eigh(covariance)
    smallest = values.amax() * len(values) * torch.finfo(values.dtype).eps
    kept = values > smallest
    return vectors[:, kept] / values[kept].sqrt()


def _require_same_width(features: Tensor, reference: Tensor) -> None:
    require_features(features, at_least=1)
    require_features(reference)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            "expected features [M, D] and reference [N, D], "
            f"got {list(features.shape)} and {list(reference.shape)}"
        )
