"""Zeros among the weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """How many entries of some tensors are zero."""

    zeros: int
    total: int
    per_tensor: dict[str, float]  # fraction of zeros by name, in [0, 1]

    @property
    def share(self) -> float:
        """Zeros among all entries together, in [0, 1]: large tensors weigh more."""
        return self.zeros / self.total


def zeros_share(tensors: Mapping[str, Tensor]) -> Sparsity:
    """Count zeros; -0.0 is one.

    Hand over *effective* weights: a mask that is still attached to a layer leaves the parameter
    itself dense.

    Args:
        tensors: Name -> weights of any shape and type, none empty.

    Returns:
        Counts and fractions; neither direction is better.

    Example:
        >>> found = zeros_share({"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(2, 3)})
        >>> found.share, found.per_tensor
        (0.875, {'a': 0.5, 'b': 1.0})
    """
    empty = [name for name, tensor in tensors.items() if tensor.numel() == 0]
    if not tensors or empty:
        raise ValueError(f"expected tensors with entries, got {empty or 'none'}")
    zeros = {name: x.numel() - int(torch.count_nonzero(x)) for name, x in tensors.items()}
    return Sparsity(
        zeros=sum(zeros.values()),
        total=sum(tensor.numel() for tensor in tensors.values()),
        per_tensor={name: zeros[name] / tensors[name].numel() for name in tensors},
    )
