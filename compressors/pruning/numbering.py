"""Numbers of channels, and tensors of such numbers.

A tensor of numbers has the shape of the values; along dimensions where they do not differ it is
expanded, so that each number is stored once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.errors import IncompatibleModel

EMPTY, FIXED = 0, 1
"""Numbers of what is zero whatever happens, and of what cannot go."""


class Numbers:
    """Numbers of channels; those that go together are one set, and some sets are fixed."""

    def __init__(self) -> None:
        self._parent = np.arange(2)
        self._why = {EMPTY: "it is zero", FIXED: "it meets a tensor of a fixed number of channels"}
        self._roots: np.ndarray | None = None

    def fresh(self, count: int) -> Tensor:
        """New numbers [count]."""
        start = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(start, start + count)])
        self._roots = None
        return torch.arange(start, start + count)

    def roots(self) -> Tensor:
        """Representative of each number's set."""
        if self._roots is None:
            while True:
                shorter = self._parent[self._parent]
                if (shorter == self._parent).all():
                    break
                self._parent = shorter
            self._roots = self._parent
        return torch.from_numpy(self._roots)

    def tie(self, one: Tensor, other: Tensor) -> None:
        """Make the sets of each pair one; what is zero goes with anything."""
        table = self.roots()
        pairs = torch.stack([table[one].flatten(), table[other].flatten()], dim=1)
        pairs = pairs[(pairs != EMPTY).all(dim=1) & (pairs[:, 0] != pairs[:, 1])]
        for pair in pairs.unique(dim=0).tolist():
            first, second = sorted(map(self._root, pair))
            if first == second:
                continue
            if second in self._why:
                self._why.setdefault(first, self._why[second])
            self._parent[second] = first
        self._roots = None

    def fix(self, labels: Tensor, operation: str) -> None:
        """Nothing of these may go."""
        for root in self.roots()[labels].unique().tolist():
            self._why.setdefault(root, f"{operation} mixes or divides channels")

    def are_fixed(self, labels: Tensor) -> bool:
        """Whether nothing of these may go."""
        return all(root in self._why for root in self.roots()[labels].unique().tolist())

    def require_free(self, root: int) -> None:
        """Raise where a set is fixed."""
        if root in self._why:
            raise IncompatibleModel(self._why[root])

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            number = int(self._parent[number])
        return number


def spread(labels: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """Numbers [channels] as those of a tensor."""
    return labels.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(*shape)


def unexpanded(labels: Tensor) -> Tensor:
    """Without repetition along expanded dimensions."""
    for dim, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[dim] > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def only_along(labels: Tensor, kept: Sequence[int]) -> Tensor:
    """One entry along all dimensions but these; there, what is not zero."""
    small = unexpanded(labels)
    others = [d for d in range(small.ndim) if d not in kept and small.shape[d] > 1]
    return small.amax(dim=others, keepdim=True) if others else small


def padded(labels: Tensor, ndim: int) -> Tensor:
    """With further dimensions in front, as broadcasting adds them."""
    return labels[(None,) * (ndim - labels.ndim)]
