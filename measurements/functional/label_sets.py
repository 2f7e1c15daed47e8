"""Truth that is more than one class: sets of right classes, and what many people said."""

from collections.abc import Sequence

import torch
from torch import Tensor

from measurements.functional.checks import require_columns, require_logits_and_labels


def set_hits(predicted: Tensor, sets: Sequence[Sequence[int]]) -> Tensor:
    """Whether each prediction is among the right classes; samples without any are skipped.

    Args:
        predicted: Predicted classes, int, shape [N]; -1 is never right.
        sets: Right classes of each sample.

    Returns:
        Bool [M], M the samples with at least one right class, in their order.

    Example:
        >>> set_hits(torch.tensor([3, 1, 0]), [(2, 3), (), (1,)]).tolist()
        [True, False]

    Reference:
        Beyer et al., Are we done with ImageNet? (2020), section 4.
    """
    require_columns(predicted=predicted)
    pairs = zip(predicted.tolist(), sets, strict=True)
    return torch.tensor([guess in right for guess, right in pairs if right], dtype=torch.bool)


def soft_cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross-entropy of a distribution of labels and the model's, -sum_k q_k log p_k.

    Args:
        logits: Shape [N, C]; a row with NaN counts as C equal logits.
        shares: Share of the people that chose each class, shape [N, C]; rows sum to 1.

    Returns:
        Float64 [N] in nats, lower is better; at least the entropy of the shares.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> [round(x, 4) for x in soft_cross_entropy(logits, torch.tensor([[0.9, 0.1]])).tolist()]
        [0.6931]

    Reference:
        Peterson et al., Human uncertainty makes classification more robust (2019).
    """
    require_logits_and_labels(logits, shares[:, 0])
    if logits.shape != shares.shape:
        raise ValueError(
            f"expected logits and shares [N, C], got {list(logits.shape)} and {list(shares.shape)}"
        )
    logits = logits.double()
    sound = logits.masked_fill(logits.isnan().any(dim=1, keepdim=True), 0.0)
    return -(shares.double() * sound.log_softmax(dim=1)).sum(dim=1)


def entropies(shares: Tensor) -> Tensor:
    """Entropy of each row of `shares` [N, C] in nats, float64 [N]: the floor of its cross-entropy.

    Example:
        >>> [round(x, 4) for x in entropies(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()]
        [0.0, 0.6931]
    """
    return torch.special.entr(shares.double()).sum(dim=1)
