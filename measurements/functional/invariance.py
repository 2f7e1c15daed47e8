"""How much a model's answer changes when its input is transformed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns

VALUES_AT_ONCE = 2**21
"""Logits of a block: 16 MB in float64."""

SEED = 0
"""Of the permutation that says which two samples are compared."""


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far each sample's answer moves, and how far it is from another sample's."""

    moved: Tensor  # [N] ||f(gx) - f(x)||, float64
    apart: Tensor  # [N] ||f(x) - f(x')||, float64

    @property
    def invariance(self) -> float:
        """1 - mean of `moved` / mean of `apart`.

        Raises:
            NotApplicable: The model answers all samples alike.
        """
        apart = self.apart.mean().item()
        if apart == 0:
            raise NotApplicable("the model answers all samples alike; see consistency and accuracy")
        return 1 - self.moved.mean().item() / apart


def invariance(logits: Tensor, *, transformed: Tensor) -> float:
    """1 - E||f(gx) - f(x)|| / E||f(x) - f(x')||, of logits less their mean over the classes.

    x' is another sample, given by one fixed cycle through all samples: what the transformation
    changes is measured in units of what another image changes.

    Args:
        logits: Logits of the samples, shape [N, C], N >= 2. A row with NaN counts as uniform.
        transformed: Logits of the transformed samples, shape [N, C], same order.

    Returns:
        At most 1, which is no change at all; 0 where the transformation changes as much as another
        image does; below 0 if more. Higher is more invariant.

    Raises:
        NotApplicable: The model answers all samples alike.

    Example:
        >>> f = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # 2 sqrt 2 apart, moved by sqrt 2 / 2
        >>> round(invariance(f, transformed=torch.tensor([[1.0, 0.0], [0.0, 1.0]])), 6)
        0.75

    Reference:
        Kvinge et al., In what ways are deep neural networks invariant and how should we measure
        this? (2022), in the normalised form; the unit is ours.
    """
    return distances(logits, transformed=transformed).invariance


def distances(logits: Tensor, *, transformed: Tensor) -> Distances:
    """What `invariance` is the ratio of, sample by sample; arguments are the same.

    Example:
        >>> f = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> distances(f, transformed=f).moved.tolist()
        [0.0, 0.0]
    """
    _require_pairs(logits, transformed)
    return Distances(
        moved=_distances(transformed, logits, torch.arange(len(logits))),
        apart=_distances(logits, logits, derangement(len(logits))),
    )


def consistency(predicted: Tensor, *, transformed: Tensor) -> float:
    """Share of samples whose prediction survives the transformation.

    A model that always says the same is perfectly consistent: show it next to the accuracy.

    Args:
        predicted: Predicted classes, int64, shape [N]; a broken row, -1, is never consistent.
        transformed: Predicted classes of the transformed samples, int64, shape [N].

    Returns:
        Fraction in [0, 1]; higher is better.

    Example:
        >>> consistency(torch.tensor([0, 1, 2, -1]), transformed=torch.tensor([0, 1, 1, -1]))
        0.5

    Reference:
        Zhang, Making convolutional networks shift-invariant again (2019).
    """
    return kept(predicted, transformed=transformed).double().mean().item()


def kept(predicted: Tensor, *, transformed: Tensor) -> Tensor:
    """Whether each prediction survives, bool [N]; arguments are those of `consistency`."""
    require_columns(predicted=predicted, transformed=transformed)
    return (predicted == transformed) & (predicted >= 0)


def derangement(n: int) -> Tensor:
    """For each of `n` >= 2 samples another one, the same at every call: one cycle through all.

    Returns:
        int64 [n], a permutation that leaves no sample in its place.

    Example:
        >>> derangement(2).tolist()
        [1, 0]
    """
    if n < 2:
        raise ValueError(f"expected at least 2 samples to compare, got {n}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(SEED))
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner


def _require_pairs(logits: Tensor, transformed: Tensor) -> None:
    if logits.ndim != 2 or logits.shape != transformed.shape:
        raise ValueError(
            "expected logits [N, C] of the samples and of the transformed samples, "
            f"got {list(logits.shape)} and {list(transformed.shape)}"
        )


def _distances(one: Tensor, other: Tensor, partner: Tensor) -> Tensor:
    """||one_i - other_partner(i)|| for each sample i, [N], a block of rows at a time."""
    step = max(1, VALUES_AT_ONCE // one.shape[1])
    found = []
    for start in range(0, len(one), step):
        rows = slice(start, start + step)
        found.append((_centred(one[rows]) - _centred(other[partner[rows]])).norm(dim=1))
    return torch.cat(found)


def _centred(logits: Tensor) -> Tensor:
    """Less the mean over classes, float64; zeros, which is uniform, where the row is broken."""
    logits = logits.double()
    logits = logits.masked_fill(~logits.isfinite().all(dim=1, keepdim=True), 0.0)
    return logits - logits.mean(dim=1, keepdim=True)
