"""Linear layers whose weights are stored as integers of 8 or 4 bits."""

import copy
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import IncompatibleModel
from models.replacements import Replacement

STORED_BITS = (4, 8)

TENSORS = ("integers", "scale")
"""Buffers of a layer that are its weight."""


class Rounded(NamedTuple):
    """A weight as integers and steps: entry = integer * step of its group."""

    integers: Tensor  # int8 [rows, columns]
    scale: Tensor  # [rows, groups]


def round_to_nearest(weight: Tensor, *, bits: int, group_size: int | None) -> Rounded:
    """Round to integers of `bits` bits; a step is 2 / (2^bits - 1) of a group's largest magnitude.

    Args:
        weight: Floating point, [rows, columns].
        bits: At least 2; integers are those from -2^(bits-1) to 2^(bits-1) - 1.
        group_size: Consecutive columns that share a step, the last group may have fewer; None for
            all.

    Returns:
        Half a step at most from `weight`; a group of zeros stays zero.

    Example:
        >>> found = round_to_nearest(torch.tensor([[7.5, 2.2, -3.6]]), bits=4, group_size=None)
        >>> found.integers.tolist(), found.scale.tolist()
        ([[7, 2, -4]], [[1.0]])
    """
    columns = weight.shape[1]
    size = group_size or columns
    groups = F.pad(weight, (0, -columns % size)).unflatten(1, (-1, size))
    largest = groups.abs().amax(dim=2, keepdim=True)
    scale = (largest / ((2**bits - 1) / 2)).clamp(min=torch.finfo(weight.dtype).tiny)
    highest = 2 ** (bits - 1) - 1
    integers = (groups * (1 / scale)).round().clamp(-highest - 1, highest).to(torch.int8)
    return Rounded(integers.flatten(1)[:, :columns], scale.squeeze(2))


def pack_nibbles(integers: Tensor) -> Tensor:
    """Integers from -8 to 7, two a byte: the first in the lower half; a last half may be empty.

    Args:
        integers: int8, any shape.

    Returns:
        uint8, one dimension.

    Example:
        >>> pack_nibbles(torch.tensor([1, -1, 3], dtype=torch.int8)).tolist()
        [241, 3]
    """
    flat = integers.flatten().to(torch.int16) & 0xF
    low, high = F.pad(flat, (0, len(flat) % 2)).view(-1, 2).unbind(1)
    return (low | high << 4).to(torch.uint8)


def unpack_nibbles(packed: Tensor, count: int) -> Tensor:
    """Inverse of `pack_nibbles`: int8 [count].

    Example:
        >>> unpack_nibbles(torch.tensor([241, 3], dtype=torch.uint8), 3).tolist()
        [1, -1, 3]
    """
    halves = torch.stack([packed & 0xF, packed >> 4], dim=1).flatten()[:count].to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)


class IntegerLinear(Replacement):
    """Stands in the place of a linear layer; its weight is integers, computed with as floats.

    The integers cannot be trained; the bias can.

    Args:
        layer: Gives the shape and the bias.
        rounded: Its weight.
        bits: 8, or 4 with two integers in a byte.
        group_size: As in `round_to_nearest`.
    """

    integers: Tensor
    scale: Tensor

    def __init__(
        self, layer: nn.Linear, rounded: Rounded, *, bits: int, group_size: int | None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bits, self.group_size = bits, group_size or layer.in_features
        self.bias = copy.deepcopy(layer.bias)
        self.register_buffer("integers", self._stored(rounded.integers))
        self.register_buffer("scale", rounded.scale)

    @classmethod
    def of(  # type: ignore[override]
        cls, layer: nn.Module, *, bits: int, group_size: int | None = None
    ) -> "IntegerLinear":
        """The layer with its weight rounded to the nearest integers."""
        if type(layer).forward is not nn.Linear.forward:
            raise IncompatibleModel(f"a {type(layer).__name__} computes more than a linear layer")
        if bits not in STORED_BITS:
            raise IncompatibleModel(f"expected integers of {STORED_BITS} bits, got {bits}")
        weight = cast(nn.Linear, layer).weight.detach()
        rounded = round_to_nearest(weight, bits=bits, group_size=group_size)
        return cls(cast(nn.Linear, layer), rounded, bits=bits, group_size=group_size)

    @property
    def weight(self) -> Tensor:
        """What the forward pass multiplies with, [out_features, in_features]."""
        shape = (self.out_features, self.in_features)
        integers = self.integers
        if self.bits == 4:
            integers = unpack_nibbles(integers, shape[0] * shape[1]).view(shape)
        steps = self.scale.repeat_interleave(self.group_size, dim=1)[:, : shape[1]]
        return integers * steps

    def put(self, rounded: Rounded) -> None:
        """Take another weight of the same shape."""
        self.integers.copy_(self._stored(rounded.integers))
        self.scale.copy_(rounded.scale)

    def forward(self, features: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features]."""
        return F.linear(features, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As a linear layer prints it, with how it is stored."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bits={self.bits}, group_size={self.group_size}"
        )

    def in_floats(self) -> nn.Linear:
        """A plain layer of the same function."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.weight)
        layer.bias = copy.deepcopy(self.bias)
        return layer.train(self.training)

    def _stored(self, integers: Tensor) -> Tensor:
        return pack_nibbles(integers) if self.bits == 4 else integers


def unpacked(model: nn.Module) -> nn.Module:
    """The model with plain layers for those of integers: for who counts or looks at parameters.

    Args:
        model: Left as it is.

    Returns:
        `model` itself where no layer is of integers, else a copy.

    Example:
        >>> layer = IntegerLinear.of(nn.Linear(6, 2), bits=4)
        >>> sum(p.numel() for p in layer.parameters()), layer.integers.numel()
        (2, 6)
        >>> sum(p.numel() for p in unpacked(nn.Sequential(layer)).parameters())
        14
    """
    if not any(isinstance(part, IntegerLinear) for part in model.modules()):
        return model
    twin = nn.ModuleDict({"model": copy.deepcopy(model)})
    for name, part in list(twin.named_modules()):
        if isinstance(part, IntegerLinear):
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, part.in_floats())
    return twin["model"]


def integer_tensors(model: nn.Module) -> set[str]:
    """Names of the buffers that are weights."""
    return {
        f"{name}.{tensor}" if name else tensor
        for name, part in model.named_modules(remove_duplicate=False)
        if isinstance(part, IntegerLinear)
        for tensor in TENSORS
    }
