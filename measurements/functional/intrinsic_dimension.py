"""On how many dimensions the features lie, from distances between neighbours.

Both estimates are too low in high dimensions and for few samples: about 9.7 for 5000 samples of a
Gaussian in 10 dimensions. Compare models on the same samples. Samples with equal features count
once. For an interval leave samples out; a resample with replacement makes duplicates.
"""

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import nearest_neighbours, require_features


def two_nn_dimension(features: Tensor) -> float:
    """(N - 1) / sum ln(r2 / r1), with the distances r1, r2 to the two nearest neighbours.

    Args:
        features: Shape [N, D], finite, at least 3 rows that differ.

    Returns:
        Dimension, above 0; neither direction is better.

    Raises:
        NotApplicable: Fewer than 3 rows differ, or all neighbours are equally far.

    Example:
        >>> # r2/r1 = 3, 2, 3/2: the sum of logarithms is ln 9
        >>> round(two_nn_dimension(torch.tensor([[0.0], [1.0], [3.0]])), 4)  # 2 / ln 9
        0.9102

    Reference:
        Facco et al., Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information (2017); the maximum-likelihood form, with N - 1 against its bias, and without
        discarding the largest ratios.
    """
    return _dimension(features, k=2)


def mle_dimension(features: Tensor, *, k: int = 20) -> float:
    """(N (k - 1) - 1) / sum over samples and j < k of ln(r_k / r_j).

    Args:
        features: Shape [N, D], finite, more than `k` rows that differ.
        k: Neighbours a sample, at least 2; at 2 this is TwoNN. More vary less and see less detail.

    Returns:
        Dimension, above 0; neither direction is better.

    Raises:
        NotApplicable: Too few rows differ, or all neighbours are equally far.

    Example:
        >>> line = torch.tensor([[0.0], [1.0], [3.0]])
        >>> mle_dimension(line, k=2) == two_nn_dimension(line)
        True

    Reference:
        Levina & Bickel, Maximum likelihood estimation of intrinsic dimension (2004);
        inverse dimensions are averaged, as MacKay & Ghahramani's comment on it (2005) has it.
    """
    if k < 2:
        raise ValueError(f"k is a number of neighbours, at least 2, got {k}")
    return _dimension(features, k=k)


def _dimension(features: Tensor, *, k: int) -> float:
    distances = _distances(features, k)
    logs = (distances[:, -1:] / distances[:, :-1]).log()
    if not logs.any():
        raise NotApplicable("all neighbours of a sample are equally far: no dimension fits")
    return (logs.numel() - 1) / logs.sum().item()


def _distances(features: Tensor, k: int) -> Tensor:
    """Distances [N, k] to the nearest neighbours, all above 0, among the rows that differ."""
    require_features(features, at_least=k + 1)
    distances = nearest_neighbours(features, k=k).distances
    if distances.all():
        return distances
    distinct = torch.unique(features.detach(), dim=0)
    if len(distinct) <= k:
        raise NotApplicable(
            f"only {len(distinct)} samples have features of their own, {k + 1} needed"
        )
    return nearest_neighbours(distinct, k=k).distances
