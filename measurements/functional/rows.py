"""Stored logits a block of rows at a time: a memory-mapped file is never whole in memory."""

from collections.abc import Iterator

from torch import Tensor

VALUES_AT_ONCE = 2**21
"""Logits of a block: 16 MB in float64."""


def row_blocks(rows: int, classes: int) -> Iterator[slice]:
    """Slices that cover `rows` rows in order, about `VALUES_AT_ONCE` logits each.

    Example:
        >>> [block.stop - block.start for block in row_blocks(3, 2**20)]
        [2, 1]
    """
    step = max(1, VALUES_AT_ONCE // classes)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def finite_logits(logits: Tensor) -> Tensor:
    """Stored logits in float64; a broken row, NaN throughout, as C equal logits.

    Args:
        logits: Stored logits, shape [N, C].

    Returns:
        Float64 [N, C].

    Example:
        >>> import torch
        >>> finite_logits(torch.tensor([[0.0, -1.0], [torch.nan, torch.nan]])).tolist()
        [[0.0, -1.0], [0.0, 0.0]]
    """
    logits = logits.double()
    return logits.masked_fill(logits.isnan().any(dim=1, keepdim=True), 0.0)


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities in float64 [N, C]; uniform where the row is broken.

    Example:
        >>> import torch
        >>> log_probabilities(torch.tensor([[torch.nan, torch.nan]])).exp().tolist()
        [[0.5, 0.5]]
    """
    return finite_logits(logits).log_softmax(dim=1)
