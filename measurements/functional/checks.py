"""Refusals shared by the pure functions: shapes that would broadcast, nothing to measure on."""

from torch import Tensor


def require_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse shapes that would broadcast into a wrong number, and empty input.

    Args:
        logits: Logits or probabilities, expected shape [N, C].
        labels: Classes, expected shape [N].

    Example:
        >>> import torch
        >>> require_logits_and_labels(torch.zeros(8, 10), torch.zeros(8, 1))
        Traceback (most recent call last):
        ...
        ValueError: expected logits [N, C] and labels [N], got [8, 10] and [8, 1]
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "expected logits [N, C] and labels [N], "
            f"got {list(logits.shape)} and {list(labels.shape)}"
        )
    _require_samples(len(labels))


def require_columns(**columns: Tensor) -> None:
    """Refuse columns that are not vectors of one length N >= 1; the error names them.

    Example:
        >>> import torch
        >>> require_columns(score=torch.zeros(3), correct=torch.zeros(3, 1))
        Traceback (most recent call last):
        ...
        ValueError: expected columns [N] of one length, got score [3], correct [3, 1]
    """
    shapes = {tuple(column.shape) for column in columns.values()}
    if len(shapes) != 1 or any(len(shape) != 1 for shape in shapes):
        got = ", ".join(f"{name} {list(column.shape)}" for name, column in columns.items())
        raise ValueError(f"expected columns [N] of one length, got {got}")
    _require_samples(len(next(iter(columns.values()))))


def _require_samples(n: int) -> None:
    if n == 0:
        raise ValueError("expected at least one sample, got none: the split or the group is empty")
