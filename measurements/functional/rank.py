"""How many directions the features of a model really use."""

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import require_features

ROWS_AT_ONCE = 4096
"""Samples of a block; only a triangle [D, D] is kept between blocks."""


def effective_rank(features: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of the centred features.

    Args:
        features: Shape [N, D], finite, N >= 2.

    Returns:
        In [1, min(N - 1, D)]; k for k equal singular values. Neither direction is better.

    Raises:
        NotApplicable: All samples have the same features.

    Example:
        >>> square = torch.tensor([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
        >>> round(effective_rank(square + 5), 6)
        2.0

    Reference:
        Roy & Vetterli, The effective rank (2007); of the centred matrix.
    """
    return effective_rank_of(singular_values(features))


def effective_rank_of(values: Tensor) -> float:
    """Effective rank from singular values, as `singular_values` gives them.

    Example:
        >>> round(effective_rank_of(torch.tensor([3.0, 3.0, 3.0])), 6)
        3.0
    """
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()


def participation_ratio(features: Tensor) -> float:
    """(sum s^2)^2 / sum s^4 of the singular values s of the centred features.

    Squares weigh the large directions more, so it is at most the rank that the entropy of the
    squares gives.

    Args:
        features: Shape [N, D], finite, N >= 2.

    Returns:
        In [1, min(N - 1, D)]; k for k equal singular values. Neither direction is better.

    Raises:
        NotApplicable: All samples have the same features.

    Example:
        >>> round(participation_ratio(torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])), 6)
        1.470588

    Reference:
        Gao et al., A theory of multineuronal dimensionality, dynamics and measurement (2017);
        s^2 are the eigenvalues of the covariance, up to a factor.
    """
    return participation_ratio_of(singular_values(features))


def participation_ratio_of(values: Tensor) -> float:
    """Participation ratio from singular values, as `singular_values` gives them.

    Example:
        >>> round(participation_ratio_of(torch.tensor([2.0, 1.0])), 6)  # 25 / 17
        1.470588
    """
    squares = (values / values[0]).square()
    return (squares.sum().square() / squares.square().sum()).item()


def singular_values(features: Tensor) -> Tensor:
    """Singular values of the features less their mean, largest first.

    Args:
        features: Shape [N, D], finite, N >= 2.

    Returns:
        Float64 [min(N, D)], at least one above 0; at least one is rounding where N <= D.

    Raises:
        NotApplicable: All samples have the same features.

    Example:
        >>> singular_values(torch.tensor([[4.0, 3.0], [4.0, 5.0]])).round(decimals=6).tolist()[0]
        1.414214
    """
    require_features(features)
    features = features.detach()
    mean = features.mean(dim=0, dtype=torch.float64)
    triangle = mean.new_empty(0, features.shape[1])
    for block in features.split(max(ROWS_AT_ONCE, features.shape[1])):
        rows = torch.cat([triangle, block.double() - mean])
        triangle = torch.linalg.qr(rows, mode="r").R
    values = torch.linalg.svdvals(triangle)
    rounding = 4 * torch.finfo(torch.float64).eps * features.numel() ** 0.5
    if values[0] <= rounding * features.abs().max():
        raise NotApplicable("all samples have the same features: they span no direction")
    return values
