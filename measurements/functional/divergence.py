"""How far the predicted probabilities of a model are from its baseline's, sample by sample.

All read the stored logits: float16, shifted so that the largest of a row is 0, at least -65504. A
row of NaN (the model gave a non-finite logit) counts as a uniform prediction, as in every column of
the records. Rows are computed in float64, a block at a time, so a memory-mapped file is never in
memory as a whole.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

VALUES_AT_ONCE = 2**21
"""Logits of a block: 16 MB in float64."""


def kl_divergence(logits: Tensor, *, baseline: Tensor) -> Tensor:
    """KL(baseline || model), in nats: sum over classes of p0 (log p0 - log p1).

    Args:
        logits: Stored logits of the model, shape [N, C].
        baseline: Stored logits of the baseline, shape [N, C], same samples.

    Returns:
        Float64 [N], at least 0; exactly 0 for equal logits; lower is better. A gap of logits
        counts as at most 65504, so the result is finite.

    Example:
        >>> uniform, sure = torch.zeros(1, 2), torch.tensor([[0.0, -65504.0]])
        >>> round(kl_divergence(uniform, baseline=sure).item(), 6)  # ln 2
        0.693147
        >>> kl_divergence(sure, baseline=uniform).item() > 10_000
        True

    Reference:
        Kullback & Leibler, On information and sufficiency (1951).
    """
    return _by_rows(_kl_rows, logits, baseline)


def js_divergence(logits: Tensor, *, baseline: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats: mean KL of both to their mean; symmetric.

    Args:
        logits: Stored logits of the model, shape [N, C].
        baseline: Stored logits of the baseline, shape [N, C], same samples.

    Returns:
        Float64 [N] in [0, ln 2]; exactly 0 for equal logits; lower is better.

    Example:
        >>> one, other = torch.tensor([[0.0, -65504.0]]), torch.tensor([[-65504.0, 0.0]])
        >>> round(js_divergence(one, baseline=other).item(), 6)
        0.693147

    Reference:
        Lin, Divergence measures based on the Shannon entropy (1991).
    """
    return _by_rows(_js_rows, logits, baseline)


def total_variation(logits: Tensor, *, baseline: Tensor) -> Tensor:
    """Total variation distance: half the sum over classes of |p0 - p1|; symmetric.

    Args:
        logits: Stored logits of the model, shape [N, C].
        baseline: Stored logits of the baseline, shape [N, C], same samples.

    Returns:
        Float64 [N] in [0, 1]; exactly 0 for equal logits; lower is better. At most sqrt(KL / 2).

    Example:
        >>> quarter = torch.tensor([[0.0, -1.0986123]])  # p = (3/4, 1/4)
        >>> round(total_variation(quarter, baseline=torch.zeros(1, 2)).item(), 6)
        0.25

    Reference:
        Levin & Peres, Markov chains and mixing times (2017), proposition 4.2.
    """
    return _by_rows(_tv_rows, logits, baseline)


def _by_rows(divergence: Callable[[Tensor, Tensor], Tensor], model: Tensor, base: Tensor) -> Tensor:
    """`divergence` of log-probabilities [n, C] of baseline and model, for blocks of rows."""
    if model.ndim != 2 or model.shape != base.shape:
        raise ValueError(
            "expected logits [N, C] of model and baseline, "
            f"got {list(model.shape)} and {list(base.shape)}"
        )
    if len(model) == 0:
        raise ValueError("expected at least one sample, got none: the split is empty")
    return torch.cat(
        [
            divergence(_log_p(base[rows]), _log_p(model[rows])).clamp(min=0.0)
            for rows in _blocks(*model.shape)
        ]
    )


def _blocks(rows: int, classes: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // classes)
    return (slice(start, start + step) for start in range(0, rows, step))


def _log_p(logits: Tensor) -> Tensor:
    """Log-probabilities in float64; uniform where the row is broken."""
    logits = logits.double()
    return logits.masked_fill(logits.isnan().any(dim=1, keepdim=True), 0.0).log_softmax(dim=1)


def _kl_rows(log_p0: Tensor, log_p1: Tensor) -> Tensor:
    return torch.linalg.vecdot(log_p0.exp(), log_p0 - log_p1)


def _js_rows(log_p0: Tensor, log_p1: Tensor) -> Tensor:
    apart = log_p1 - log_p0
    to_mean = torch.linalg.vecdot(log_p0.exp(), _log_mean_exp(apart))
    return -(to_mean + torch.linalg.vecdot(log_p1.exp(), _log_mean_exp(-apart))) / 2


def _log_mean_exp(x: Tensor) -> Tensor:
    """log((1 + e^x) / 2) without overflow, and exactly 0 at 0."""
    return x.clamp(min=0.0) + torch.log1p(torch.expm1(-x.abs()) / 2)


def _tv_rows(log_p0: Tensor, log_p1: Tensor) -> Tensor:
    return (log_p0.exp() - log_p1.exp()).abs().sum(dim=1) / 2
