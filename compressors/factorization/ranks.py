"""Which ranks: by the energy that stays, or by a budget of multiplications for several layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.factorized import Method, matrices

ROUNDING = 1e-12
"""Share of the energy that counts as nothing: of float32 weights, the last digits make less."""

HALVINGS = 50
"""Bisections of the energy; after them the interval is smaller than a float64 tells apart."""


class Call(NamedTuple):
    """Sizes of one use of a layer on one sample: height and width before and behind it.

    A linear layer has as height how many vectors it maps, and width 1.
    """

    height: int
    width: int
    out_height: int
    out_width: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """A layer as factors.

    Args:
        method: How it is split.
        ranks: Of its matrices.
        macs: Multiply-accumulates of the factors on one sample.
        weights: Entries of the factors without biases.
    """

    method: Method
    ranks: tuple[int, ...]
    macs: int
    weights: int


@dataclass(frozen=True, kw_only=True)
class Thick:
    """A layer that may be split: what it costs, and how fast its singular values fall.

    Args:
        shape: Of its weight: outputs, inputs, kernel.
        calls: Its uses in one forward pass.
        tails: Method -> one array a matrix; at index r the energy that rank r leaves out.
    """

    shape: tuple[int, int, int, int]
    calls: tuple[Call, ...]
    tails: Mapping[Method, Sequence[np.ndarray]] = field(repr=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer as it is, on one sample."""
        return sum(call.out_height * call.out_width for call in self.calls) * self.weights

    @property
    def weights(self) -> int:
        """Entries of its weight."""
        return int(np.prod(self.shape))

    def at_energy(self, energy: float) -> Split | None:
        """The cheapest split that keeps this share of the squared weights; None: none saves."""
        allowed = max(1 - energy, ROUNDING)
        return self._cheapest(
            self._split(m, [_rank_below(t, allowed / len(tails)) for t in tails])
            for m, tails in self.tails.items()
        )

    def at_ratio(self, ratio: float) -> Split | None:
        """The cheapest split to this fraction of the full ranks; None: none saves."""
        return self._cheapest(
            self._split(m, [max(1, int((len(t) - 1) * ratio + ROUNDING)) for t in tails])
            for m, tails in self.tails.items()
        )

    def _cheapest(self, splits: Iterable[Split]) -> Split | None:
        saving = [s for s in splits if s.macs < self.macs and s.weights < self.weights]
        return min(saving, key=lambda split: split.macs, default=None)

    def _split(self, method: Method, ranks: list[int]) -> Split:
        return Split(
            method=method,
            ranks=tuple(ranks),
            macs=sum(_macs(method, ranks, self.shape, call) for call in self.calls),
            weights=_weights(method, ranks, self.shape),
        )


def thick(layer: nn.Module, methods: Iterable[Method], calls: Iterable[Call]) -> Thick:
    """What there is to know about a layer before it is split."""
    outputs, inputs, *kernel = cast(Tensor, layer.weight).shape
    high, wide = kernel or (1, 1)
    tails = {method: [energy_tail(m) for m in matrices(layer, method)] for method in methods}
    return Thick(shape=(outputs, inputs, high, wide), calls=tuple(calls), tails=tails)


def energy_tail(matrix: Tensor) -> np.ndarray:
    """Share of the squared entries that the nearest matrix of rank 0, 1, ... leaves out.

    Example:
        >>> energy_tail(torch.diag(torch.tensor([3.0, 0.0, 4.0]))).round(2).tolist()
        [1.0, 0.36, 0.0, 0.0]
    """
    squares = torch.linalg.svdvals(matrix).square().numpy()
    tail = np.append(squares[::-1].cumsum()[::-1], 0.0)
    return cast(np.ndarray, tail / tail[0])


def within_budget(layers: Mapping[str, Thick], budget: int) -> dict[str, Split] | None:
    """Splits of one energy for all layers, as high as the budget allows.

    Args:
        layers: By name.
        budget: Multiply-accumulates of all of them together.

    Returns:
        Splits of the layers that are split; None where even rank 1 is too much.
    """
    low, high = 0.0, 1.0
    if _total(layers, low) > budget:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _total(layers, middle) <= budget else (low, middle)
    return splits_at(layers, low)


def splits_at(layers: Mapping[str, Thick], energy: float) -> dict[str, Split]:
    """Splits of the layers that one energy makes cheaper."""
    found = {name: layer.at_energy(energy) for name, layer in layers.items()}
    return {name: split for name, split in found.items() if split is not None}


def total_macs(layers: Mapping[str, Thick], splits: Mapping[str, Split]) -> int:
    """Multiply-accumulates of all layers where some are split."""
    return sum(splits[name].macs if name in splits else own.macs for name, own in layers.items())


def _total(layers: Mapping[str, Thick], energy: float) -> int:
    return total_macs(layers, splits_at(layers, energy))


def _rank_below(tail: np.ndarray, allowed: float) -> int:
    """The smallest rank, at least 1, that leaves out no more than is allowed."""
    return max(1, int(np.argmax(tail <= allowed)))


def _weights(method: Method, ranks: Sequence[int], shape: tuple[int, int, int, int]) -> int:
    outputs, inputs, high, wide = shape
    if method == "svd":
        return ranks[0] * (inputs * high * wide + outputs)
    if method == "spatial":
        return ranks[0] * (inputs * high + outputs * wide)
    return ranks[0] * inputs + ranks[0] * ranks[1] * high * wide + ranks[1] * outputs


def _macs(
    method: Method, ranks: Sequence[int], shape: tuple[int, int, int, int], call: Call
) -> int:
    """The first layer of `tucker2` runs before the stride, a column before that along the width."""
    outputs, inputs, high, wide = shape
    behind = call.out_height * call.out_width
    if method == "svd":
        return behind * _weights(method, ranks, shape)
    if method == "spatial":
        first = call.out_height * call.width * ranks[0] * inputs * high
        return first + behind * ranks[0] * outputs * wide
    first = call.height * call.width * ranks[0] * inputs
    return first + behind * ranks[1] * (ranks[0] * high * wide + outputs)


def watched(model: nn.Module, names: Iterable[str], inputs: Tensor) -> dict[str, list[Call]]:
    """How often, and on which sizes, some layers are used on one sample.

    Args:
        model: In eval mode; left as it is.
        names: Full names of convolutions and linear layers.
        inputs: One batch; the first sample is looked at.
    """
    calls: dict[str, list[Call]] = {name: [] for name in names}
    hooks = [
        model.get_submodule(name).register_forward_hook(_noting(noted))
        for name, noted in calls.items()
    ]
    try:
        with torch.no_grad():
            model(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _noting(calls: list[Call]) -> Any:
    """A forward hook; images that a network puts into the batch are counted as height."""

    def hook(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            vectors = made[..., 0].numel()
            calls.append(Call(vectors, 1, vectors, 1))
        else:
            count, _, *before = given[0].shape
            behind = made.shape[2:]
            calls.append(Call(count * before[0], before[1], count * behind[0], behind[1]))

    return hook
