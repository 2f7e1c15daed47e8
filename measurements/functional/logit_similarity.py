"""How alike two models order and weigh the classes, sample by sample, from stored logits."""

from collections.abc import Callable

import torch
from torch import Tensor

from measurements.functional.rows import finite_logits, row_blocks


def topk_overlap(top: Tensor, *, baseline: Tensor, k: int = 5) -> Tensor:
    """Share of the k best classes that both models have among theirs, in any order.

    Args:
        top: Best classes of the model, best first, int64, shape [N, K], K >= k; -1 = none.
        baseline: Best classes of the baseline, shape [N, K].
        k: How many are compared, at least 1.

    Returns:
        Float64 [N] in [0, 1]; higher is better; 0 where a row is broken.

    Example:
        >>> top, before = torch.tensor([[3, 1, 2]]), torch.tensor([[1, 3, 0]])
        >>> topk_overlap(top, baseline=before, k=2).tolist()
        [1.0]

    Reference:
        Fagin et al., Comparing top k lists (2003), the overlap of the sets.
    """
    if top.ndim != 2 or top.shape != baseline.shape or not 1 <= k <= top.shape[1]:
        raise ValueError(
            f"expected best classes [N, K] with K >= {k} >= 1, "
            f"got {list(top.shape)} and {list(baseline.shape)}"
        )
    shared = top[:, :k, None] == baseline[:, None, :k]
    return (shared & (top[:, :k, None] >= 0)).sum(dim=(1, 2)).double() / k


def logit_cosine(logits: Tensor, *, baseline: Tensor) -> Tensor:
    """Cosine of the angle between the two models' logits, each centred over the classes.

    Centring takes out what no probability depends on, and the shift the logits are stored with.

    Args:
        logits: Stored logits of the model, shape [N, C].
        baseline: Stored logits of the baseline, shape [N, C], same samples.

    Returns:
        Float64 [N] in [-1, 1]; higher is better; 1 if both rows are constant, 0 if one is.

    Example:
        >>> one, other = torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[0.0, -2.0, -4.0]])
        >>> logit_cosine(one, baseline=other).tolist()
        [1.0]
    """
    return _by_rows(lambda now, before: _cosine(now, before), logits, baseline)


def rank_correlation(logits: Tensor, *, baseline: Tensor) -> Tensor:
    """Spearman correlation of the two models' logits over the classes.

    Equal logits share the mean of their ranks. All classes count alike, the hopeless ones too.

    Args:
        logits: Stored logits of the model, shape [N, C].
        baseline: Stored logits of the baseline, shape [N, C], same samples.

    Returns:
        Float64 [N] in [-1, 1]; higher is better; 1 if both rows are constant, 0 if one is.

    Example:
        >>> one, other = torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[-1.0, 0.0, -2.0]])
        >>> rank_correlation(one, baseline=other).tolist()  # 1 - 6 x 2 / (3 x 8)
        [0.5]

    Reference:
        Spearman, The proof and measurement of association between two things (1904).
    """
    return _by_rows(lambda now, before: _cosine(_ranks(now), _ranks(before)), logits, baseline)


def _cosine(now: Tensor, before: Tensor) -> Tensor:
    now, before = (x - x.mean(dim=1, keepdim=True) for x in (now, before))
    lengths = [torch.linalg.vecdot(x, x) for x in (now, before)]
    both_flat = (lengths[0] == 0) & (lengths[1] == 0)
    product = (lengths[0] * lengths[1]).sqrt()
    cosine = torch.linalg.vecdot(now, before) / product.masked_fill(product == 0, 1.0)
    return cosine.masked_fill(both_flat, 1.0).clamp(-1.0, 1.0)


def _ranks(values: Tensor) -> Tensor:
    """Rank of each value in its row, float64; equal values get the mean of theirs."""
    ordered, order = values.sort(dim=1)
    first = torch.searchsorted(ordered, ordered, right=False)
    last = torch.searchsorted(ordered, ordered, right=True) - 1
    ranks = (first + last).double() / 2
    return torch.empty_like(ranks).scatter_(1, order, ranks)


def _by_rows(
    compare: Callable[[Tensor, Tensor], Tensor], logits: Tensor, baseline: Tensor
) -> Tensor:
    if logits.ndim != 2 or logits.shape != baseline.shape or len(logits) == 0:
        raise ValueError(
            "expected logits [N, C] of model and baseline, "
            f"got {list(logits.shape)} and {list(baseline.shape)}"
        )
    return torch.cat(
        [
            compare(finite_logits(logits[rows]), finite_logits(baseline[rows]))
            for rows in row_blocks(*logits.shape)
        ]
    )
