"""How far the decision is from another one."""

import torch
from torch import Tensor

from measurements.functional.checks import require_logits_and_labels

VALUES_AT_ONCE = 2**21
"""Logits of a block: 16 MB in float64."""


def label_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - max of the other logits: by how much the label wins, or loses where negative.

    Args:
        logits: Shape [N, C], C >= 2. A row with NaN counts as uniform: margin 0.
        labels: True classes, int64, shape [N], in [0, C).

    Returns:
        Float64 [N], in units of the logits; higher is safer.

    Example:
        >>> label_margins(torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), torch.tensor([0, 1]))
        tensor([ 1., -2.], dtype=torch.float64)

    Reference:
        Crammer & Singer, On the algorithmic implementation of multiclass kernel-based vector
        machines (2001).
    """
    _require_classes(logits, labels)
    step = max(1, VALUES_AT_ONCE // logits.shape[1])
    return torch.cat(
        [
            _ahead(logits[start : start + step], labels[start : start + step]).amin(dim=1)
            for start in range(0, len(labels), step)
        ]
    )


def boundary_distances(logits: Tensor, labels: Tensor, *, head: Tensor) -> Tensor:
    """Distance of the features to the nearest place where another class wins over the label.

    Exact for a linear last layer: min over j of (z_y - z_j) / ||w_y - w_j||. Unlike the margin
    it does not grow when all logits are scaled.

    Args:
        logits: Of that layer, shape [N, C], C >= 2. A row with NaN counts as uniform.
        labels: True classes, int64, shape [N], in [0, C).
        head: Weights of the layer, shape [C, D]; no two rows are equal.

    Returns:
        Float64 [N], in units of the features; higher is safer, negative where the label loses.

    Example:
        >>> head = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # rows 5 apart
        >>> boundary_distances(torch.tensor([[10.0, 0.0]]), torch.tensor([0]), head=head).item()
        2.0

    Reference:
        Elsayed et al., Large margin deep networks for classification (2018); the linear
        approximation there is exact here.
    """
    _require_classes(logits, labels)
    apart = _apart(head, classes=logits.shape[1])
    step = max(1, VALUES_AT_ONCE // logits.shape[1])
    blocks = []
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        ahead = _ahead(logits[rows], labels[rows])
        blocks.append((ahead / apart[labels[rows]]).amin(dim=1))
    return torch.cat(blocks)


def _require_classes(logits: Tensor, labels: Tensor) -> None:
    require_logits_and_labels(logits, labels)
    classes = logits.shape[1]
    if classes < 2:
        raise ValueError(f"expected logits of at least two classes, got {classes}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"expected labels in [0, {classes}), got {labels.min()} to {labels.max()}")


def _ahead(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - z_j, float64 [n, C]; infinite for the label itself."""
    logits = logits.double()
    logits = logits.masked_fill(~logits.isfinite().all(dim=1, keepdim=True), 0.0)
    ahead = logits.gather(1, labels.unsqueeze(1)) - logits
    return ahead.scatter(1, labels.unsqueeze(1), torch.inf)


def _apart(head: Tensor, *, classes: int) -> Tensor:
    """||w_i - w_j||, float64 [C, C], all above 0 but those of the diagonal, which are 1."""
    if head.ndim != 2 or len(head) != classes:
        raise ValueError(
            f"expected weights [{classes}, D] of the last layer, got {list(head.shape)}"
        )
    weights = head.detach().double()
    apart = torch.cdist(weights, weights, compute_mode="donot_use_mm_for_euclid_dist")
    apart.fill_diagonal_(1.0)
    if not apart.all():
        raise ValueError("expected weights that differ from class to class, got two equal rows")
    return apart
