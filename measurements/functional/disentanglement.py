"""Whether each number of a code stands for one factor of the data, on data whose factors are known.

Codes are features; factors are classes 0, 1, ... of each property of the image, independent of each
other. All scores are high for the factors themselves and low for a rotation of them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import require_features

BINS = 20
"""Bins of a code; more where the factor has more values."""

TREES = 20
"""Trees of a forest of DCI."""


@dataclass(frozen=True, kw_only=True)
class DCI:
    """Three scores in [0, 1]; higher is better."""

    disentanglement: float  # does a code tell about one factor?
    completeness: float  # is a factor told by one code?
    informativeness: float  # accuracy of the factors predicted from unseen codes


def dci(codes: Tensor, factors: Tensor, *, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness by random forests.

    Importances of codes come from one forest a factor (20 whole trees, each split sees all codes),
    learned on a random half of the samples; informativeness is measured on the other half.

    Args:
        codes: Shape [N, D], finite, D >= 2.
        factors: Classes, int64, shape [N, F], F >= 2; each varies in the half learned from.
        seed: Of the halves and of the forests.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(4, 1)
        >>> found = dci(factors.double(), factors)
        >>> round(found.disentanglement, 3), round(found.completeness, 3), found.informativeness
        (1.0, 1.0, 1.0)

    Reference:
        Eastwood & Williams, A framework for the quantitative evaluation of disentangled
        representations (2018), with random forests, one of its two regressors.
    """
    _require_codes(codes, factors)
    if codes.shape[1] < 2 or factors.shape[1] < 2:
        raise ValueError(
            "expected at least 2 codes and 2 factors, "
            f"got {codes.shape[1]} and {factors.shape[1]}: one cannot be mixed up"
        )
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    learned, unseen = order.tensor_split(2)
    columns, hits = [], []
    for factor in factors.T:
        forest = _forest(seed).fit(_plain(codes[learned]), factor[learned].cpu().numpy())
        columns.append(torch.from_numpy(forest.feature_importances_))
        hits.append(forest.score(_plain(codes[unseen]), factor[unseen].cpu().numpy()))
    importance = torch.stack(columns, dim=1)  # [D, F]
    return DCI(
        disentanglement=_concentration(importance),
        completeness=_concentration(importance.T),
        informativeness=sum(hits) / len(hits),
    )


def mutual_information_gap(codes: Tensor, factors: Tensor) -> float:
    """Mean over factors of (I1 - I2) / H: how far the best code is ahead of the second best.

    I1, I2 are the two largest mutual informations of a code with the factor, H is the factor's
    entropy. A code is cut into equal bins from its least to its largest value: 20, or as many as
    the factor has values if those are more.

    Args:
        codes: Shape [N, D], finite, D >= 2.
        factors: Classes, int64, shape [N, F].

    Returns:
        Fraction in [0, 1]; higher is better. Few samples pull it down: independent codes then seem
        to tell something.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        >>> round(mutual_information_gap(factors.double(), factors), 6)
        1.0

    Reference:
        Chen et al., Isolating sources of disentanglement in variational autoencoders (2018),
        section 4, with binned codes.
    """
    _require_codes(codes, factors)
    if codes.shape[1] < 2:
        raise ValueError("expected at least 2 codes to compare, got 1")
    gaps = [_information_gap(codes.detach().double(), factor) for factor in factors.T]
    return sum(gaps) / len(gaps)


def attribute_predictability(codes: Tensor, factors: Tensor) -> float:
    """SAP: mean over factors of the gap between the two codes that predict it best, linearly.

    Args:
        codes: Shape [N, D], finite, D >= 2.
        factors: Ordered classes (sizes, positions), int64, shape [N, F]: predicting is a straight
            line, so leave out factors without an order.

    Returns:
        Difference of two squared correlations, in [0, 1]; higher is better.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(4))
        >>> round(attribute_predictability(factors.double(), factors), 6)
        1.0

    Reference:
        Kumar et al., Variational inference of disentangled latent concepts from unlabeled
        observations (2018), section 3, for continuous factors.
    """
    _require_codes(codes, factors)
    if codes.shape[1] < 2:
        raise ValueError("expected at least 2 codes to compare, got 1")
    x, y = (_standardised(columns.detach().double()) for columns in (codes, factors))
    best = (x.T @ y).square().clamp(max=1.0).sort(dim=0, descending=True).values  # [D, F]
    return (best[0] - best[1]).mean().item()


def _require_codes(codes: Tensor, factors: Tensor) -> None:
    if factors.ndim != 2 or len(factors) != len(codes) or factors.is_floating_point():
        raise ValueError(
            "expected codes [N, D] and factors [N, F] of classes, "
            f"got {list(codes.shape)} and {list(factors.shape)} {factors.dtype}"
        )
    require_features(codes)
    constant = (factors == factors[0]).all(dim=0).nonzero().flatten().tolist()
    if constant:
        raise ValueError(f"expected factors that vary, got one value alone in columns {constant}")


def _forest(seed: int) -> Any:
    return RandomForestClassifier(n_estimators=TREES, max_features=None, random_state=seed)


def _concentration(importance: Tensor) -> float:
    """Mean of 1 - entropy of each row's shares, weighted by the rows' sums; in [0, 1]."""
    totals = importance.sum(dim=1)
    if not totals.any():
        raise NotApplicable("no code tells anything about any factor")
    shares = importance / totals.clamp(min=torch.finfo(totals.dtype).tiny).unsqueeze(1)
    base = torch.tensor(importance.shape[1], dtype=totals.dtype).log()
    scores = 1 - torch.special.entr(shares).sum(dim=1) / base
    return (scores @ totals / totals.sum()).item()


def _information_gap(codes: Tensor, factor: Tensor) -> float:
    _, value_of = factor.unique(return_inverse=True)
    values = int(value_of.max()) + 1
    bins = max(BINS, values)
    joint = torch.stack(
        [
            torch.bincount(code * values + value_of, minlength=bins * values)
            for code in _binned(codes, bins).T
        ]
    ).view(-1, bins, values)  # [D, bins, values]
    shares = joint.double() / len(factor)
    entropy = torch.special.entr(shares[0].sum(dim=0)).sum()
    known = torch.special.entr(shares.sum(dim=2)).sum(dim=1) + entropy
    told = (known - torch.special.entr(shares).flatten(start_dim=1).sum(dim=1)).clamp(min=0.0)
    best = told.topk(2).values / entropy
    return (best[0] - best[1]).item()


def _binned(codes: Tensor, bins: int) -> Tensor:
    """Bin of every code, int64 [N, D] in [0, bins); a code that does not vary is in bin 0."""
    low, high = codes.amin(dim=0), codes.amax(dim=0)
    width = torch.where(high > low, high - low, 1.0)
    return ((codes - low) / width * bins).long().clamp(max=bins - 1)


def _standardised(columns: Tensor) -> Tensor:
    """Columns of mean 0 and length 1; zeros where a column does not vary."""
    centred = columns - columns.mean(dim=0)
    varies = (columns != columns[0]).any(dim=0)
    return torch.where(varies, centred / centred.norm(dim=0).clamp(min=1e-300), 0.0)


def _plain(codes: Tensor) -> Any:
    return codes.detach().double().cpu().numpy()
