"""Out-of-distribution scores from features: how far is a sample from those the model learned on?

Everywhere a higher score means more in-distribution, as in `measurements.functional.ood`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from measurements.functional.features import (
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
    blocks = units.split(max(1, VALUES_AT_ONCE // len(others)))
    distances = [
        torch.cdist(block, others, compute_mode="donot_use_mm_for_euclid_dist") for block in blocks
    ]
    return -torch.cat([block.kthvalue(k, dim=1).values for block in distances])


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
    distances = torch.cdist(
        features.double() @ whitening,
        means @ whitening,
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    return -distances.amin(dim=1).square()


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
