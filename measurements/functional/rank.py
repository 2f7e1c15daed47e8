"""How many directions the features of a model really use."""

from collections.abc import Callable

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import require_features

Spectrum = Callable[[Tensor], Tensor]
"""Ids of some samples, int64, no repeats -> singular values of them less their own mean."""


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

    They are roots of eigenvalues of the N x N or D x D products, whichever are fewer. What is below
    sqrt(max(N, D) eps), about 1e-6 of the largest, cannot be told from rounding and is 0; in
    float32 features it is rounding.

    Args:
        features: Shape [N, D], finite, N >= 2.

    Returns:
        Float64 [min(N, D)], at least one above 0.

    Raises:
        NotApplicable: All samples have the same features.

    Example:
        >>> singular_values(torch.tensor([[4.0, 3.0], [4.0, 5.0]])).round(decimals=6).tolist()
        [1.414214, 0.0]
    """
    return spectrum(features)(torch.arange(len(features)))


def spectrum(features: Tensor) -> Spectrum:
    """`singular_values` of any of the samples; the products of all are computed once.

    Args:
        features: Shape [N, D], finite, N >= 2.

    Example:
        >>> features = torch.tensor([[4.0, 3.0], [9.0, 9.0], [4.0, 5.0]])
        >>> spectrum(features)(torch.tensor([0, 2])).round(decimals=6).tolist()
        [1.414214, 0.0]
    """
    require_features(features)
    points = features.detach().double()
    points = points - points.mean(dim=0)
    lengths = points.square().sum(dim=1)
    is_wide = len(points) <= points.shape[1]
    products = points @ points.T if is_wide else points.T @ points
    rounding = 4 * torch.finfo(points.dtype).eps * features.numel() ** 0.5 * features.abs().max()

    def of(ids: Tensor) -> Tensor:
        if lengths[ids].sum() < lengths.sum() / 2:  # the difference would be mostly rounding
            return singular_values(features[ids])
        chosen = _gram(products, ids) if is_wide else _scatter(products, points, ids)
        values = _roots(chosen, size=max(len(ids), points.shape[1]))
        if values[0] <= rounding:
            raise NotApplicable("all samples have the same features: they span no direction")
        return values

    return of


def _gram(products: Tensor, ids: Tensor) -> Tensor:
    """Products of some samples less their mean with each other."""
    chosen = products[ids][:, ids]
    means = chosen.mean(dim=0)
    return chosen - means - means.unsqueeze(1) + means.mean()


def _scatter(products: Tensor, points: Tensor, ids: Tensor) -> Tensor:
    """Sum over some samples of (x - mean)(x - mean)^T, from that over all samples."""
    is_left_out = torch.ones(len(points), dtype=torch.bool, device=points.device)
    is_left_out[ids] = False
    rest, total = points[is_left_out], points[ids].sum(dim=0)
    return torch.addmm(products, rest.T, rest, alpha=-1) - torch.outer(total, total) / len(ids)


def _roots(products: Tensor, *, size: int) -> Tensor:
    """Singular values, largest first, from the eigenvalues they are the roots of."""
    squares = torch.linalg.eigvalsh(products).flip(0)
    smallest = size * torch.finfo(squares.dtype).eps * squares[0]
    return torch.where(squares > smallest, squares, 0.0).sqrt()
