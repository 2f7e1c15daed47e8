"""Zeros that hardware can use: whole channels, and N of M consecutive weights.

Hand over *effective* weights: a mask that is still attached leaves the parameter itself dense.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.sparsity import Sparsity

Side = Literal["in", "out"]


@dataclass(frozen=True, kw_only=True)
class PatternShare:
    """Groups of consecutive weights that hold few enough others than zero."""

    fitting: int
    groups: int

    @property
    def share(self) -> float:
        """Fitting groups among all, in [0, 1]; a kernel for the pattern needs 1.

        Raises:
            NotApplicable: No layer has a whole group.
        """
        if self.groups == 0:
            raise NotApplicable("no layer has enough inputs for a group of the pattern")
        return self.fitting / self.groups


def channel_sparsity(weights: Mapping[str, Tensor], *, side: Side = "out") -> Sparsity:
    """Count channels whose weights are all zero.

    Args:
        weights: Name -> weights [K_out, K_in, ...] of convolutions and linear layers.
        side: `out` counts filters, `in` the channels they read (of a grouped convolution: the
            places within a group).

    Returns:
        Channels as entries: zero ones, all, and fractions by name; neither direction is better.

    Example:
        >>> import torch
        >>> found = channel_sparsity({"fc": torch.tensor([[0.0, 0.0], [0.0, 1.0]])})
        >>> found.zeros, found.total, found.per_tensor
        (1, 2, {'fc': 0.5})
    """
    _require_layers(weights)
    dim = _dimension(side)
    whole = {name: _zeros_by(weight, dim).eq(1) for name, weight in weights.items()}
    return Sparsity(
        zeros=sum(int(channels.sum()) for channels in whole.values()),
        total=sum(len(channels) for channels in whole.values()),
        per_tensor={name: int(c.sum()) / len(c) for name, c in whole.items()},
    )


def zeros_per_channel(weight: Tensor, *, side: Side = "out") -> Tensor:
    """Share of zeros among the weights of each channel.

    Args:
        weight: Shape [K_out, K_in, ...].
        side: Whose channels.

    Returns:
        Float64 [K] in [0, 1].

    Example:
        >>> import torch
        >>> zeros_per_channel(torch.tensor([[0.0, 0.0], [0.0, 1.0]])).tolist()
        [1.0, 0.5]
    """
    _require_layers({"weight": weight})
    return _zeros_by(weight, _dimension(side))


def pattern_share(weights: Mapping[str, Tensor], *, n: int = 2, m: int = 4) -> PatternShare:
    """Count groups of `m` consecutive inputs with at most `n` weights other than zero.

    Inputs are consecutive channels that a filter reads, at one place of its kernel. Those after the
    last whole group do not count: they are no group. Zeros at random fit too: at sparsity .5
    11 of 16 groups of 2:4 do.

    Args:
        weights: Name -> weights [K_out, K_in, ...]; a layer with K_in < m has no group.
        n: Weights kept in a group, at least 1.
        m: Size of a group, above n.

    Returns:
        Counts over all layers.

    Example:
        >>> import torch
        >>> weight = torch.tensor([[1.0, 0, 2, 0], [1, 2, 0, 3]])
        >>> pattern_share({"fc": weight}, n=2, m=4)
        PatternShare(fitting=1, groups=2)

    Reference:
        Mishra et al., Accelerating sparse deep neural networks (2021).
    """
    if not 1 <= n < m:
        raise ValueError(f"expected a pattern n:m with 1 <= n < m, got {n}:{m}")
    _require_layers(weights)
    fitting = groups = 0
    for weight in weights.values():
        kept = _kept_in_groups(weight, m)
        fitting += int((kept <= n).sum())
        groups += kept.numel()
    return PatternShare(fitting=fitting, groups=groups)


def _kept_in_groups(weight: Tensor, m: int) -> Tensor:
    """Weights other than zero of each group, [K_out, K_in // m, ...]."""
    whole = weight.shape[1] // m
    groups = weight[:, : whole * m].unflatten(1, (whole, m))
    return groups.ne(0).sum(dim=2)


def _zeros_by(weight: Tensor, dim: int) -> Tensor:
    return weight.detach().movedim(dim, 0).flatten(start_dim=1).eq(0).double().mean(dim=1)


def _dimension(side: Side) -> int:
    if side not in ("in", "out"):
        raise ValueError(f"side is 'in' or 'out', got {side!r}")
    return 1 if side == "in" else 0


def _require_layers(weights: Mapping[str, Tensor]) -> None:
    wrong = {
        name: list(weight.shape)
        for name, weight in weights.items()
        if weight.ndim < 2 or not weight.numel()
    }
    if not weights or wrong:
        raise ValueError(f"expected weights [K_out, K_in, ...], got {wrong or 'none'}")
