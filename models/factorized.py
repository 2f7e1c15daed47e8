"""Several thin layers in the place of a linear one or a convolution: its best factors of low rank.

The matrices of a layer are those whose ranks its factors have: the weight with the outputs as rows
(`svd`), with inputs and rows of the kernel against outputs and columns (`spatial`), or both with
the inputs and with the outputs as rows (`tucker2`). All is computed in float64.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from core.errors import IncompatibleModel
from models.replacements import Replacement

Method = Literal["svd", "tucker2", "spatial"]

SWEEPS = 3
"""Rounds of orthogonal iteration behind the higher-order SVD. Half of a ResNet-20, squared error of
a layer: 0.2229 with none, 0.2154 with three, 0.2153 with twenty."""


class Factorized(nn.Sequential, Replacement):
    """Layers that are carried out one after the other; all but the last have no bias.

    `svd` has a layer to `rank` channels and one back; of a convolution, the first keeps the kernel
    and the last is 1 x 1. `spatial` has a column as kernel, then a row. `tucker2` has a 1 x 1
    convolution, the kernel between fewer channels, and a 1 x 1 convolution back.

    Args:
        layers: By name: `first`, maybe `core`, `last`.

    Reference:
        Denton et al., Exploiting Linear Structure Within Convolutional Networks, NeurIPS 2014
        (svd). Jaderberg et al., Speeding up Convolutional Neural Networks with Low Rank
        Expansions, BMVC 2014 (spatial). Kim et al., Compression of Deep Convolutional Neural
        Networks for Fast and Low Power Mobile Applications, ICLR 2016 (tucker2).
    """

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__(OrderedDict(layers))

    @classmethod
    def of(  # type: ignore[override]
        cls, layer: nn.Module, *, method: Method, ranks: Sequence[int]
    ) -> "Factorized":
        """The factors of these ranks, as frozen as the layer.

        Args:
            layer: Left as it is.
            method: How it is split.
            ranks: One a matrix: one, or for `tucker2` that of the inputs and that of the outputs.
        """
        obstacle = why_whole(layer, method)
        if obstacle:
            raise IncompatibleModel(obstacle)
        full = full_ranks(layer, method)
        if len(ranks) != len(full) or not all(
            1 <= r <= f for r, f in zip(ranks, full, strict=True)
        ):
            raise IncompatibleModel(
                f"the ranks of {method} are from 1 to {list(full)} here, got {list(ranks)}"
            )
        if isinstance(layer, nn.Linear):
            return cls(**_linear(layer, ranks[0]))
        return cls(**_CONVOLUTIONS[method](cast(nn.Conv2d, layer), *ranks))


def why_whole(layer: nn.Module, method: Method = "svd") -> str:
    """Why a layer cannot be split in this way, as a sentence; empty where it can.

    Example:
        >>> why_whole(nn.Conv2d(4, 4, 3, groups=4))
        'its 4 groups are a factorisation already'
    """
    if method not in get_args(Method):
        return f"a method is one of {', '.join(get_args(Method))}, got {method!r}"
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"a {type(layer).__name__} computes more than a Linear or a Conv2d"
    if isinstance(layer, nn.Linear) and method != "svd":
        return f"a Linear has no kernel, so {method} does not split it"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"its {layer.groups} groups are a factorisation already"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "a hook hangs on it"
    return ""


def matrices(layer: nn.Module, method: Method) -> list[Tensor]:
    """The matrices whose ranks a method makes lower, in float64 on the CPU.

    Example:
        >>> [list(matrix.shape) for matrix in matrices(nn.Conv2d(4, 8, 3), "tucker2")]
        [[4, 72], [8, 36]]
    """
    weight = cast(Tensor, layer.weight).detach().double().cpu()
    if method == "svd":
        return [weight.flatten(1)]
    if method == "spatial":
        return [weight.permute(1, 2, 0, 3).flatten(0, 1).flatten(1)]
    return [weight.transpose(0, 1).flatten(1), weight.flatten(1)]


def full_ranks(layer: nn.Module, method: Method) -> tuple[int, ...]:
    """Ranks at which the factors are the layer.

    Example:
        >>> full_ranks(nn.Conv2d(4, 80, 3), "tucker2")
        (4, 36)
    """
    return tuple(min(matrix.shape) for matrix in matrices(layer, method))


def _linear(layer: nn.Linear, rank: int) -> dict[str, nn.Module]:
    outer, inner = _split(matrices(layer, "svd")[0], rank)
    parts: dict[str, nn.Module] = {}
    for name, weight, bias in (("first", inner, None), ("last", outer, layer.bias)):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        parts[name] = _filled(made, layer, weight, bias)
    return parts


def _svd(layer: nn.Conv2d, rank: int) -> dict[str, nn.Module]:
    outer, inner = _split(matrices(layer, "svd")[0], rank)
    _, inputs, *kernel = layer.weight.shape
    return {
        "first": _conv(layer, inner.unflatten(1, (inputs, *kernel)), axes=(0, 1)),
        "last": _conv(layer, outer[:, :, None, None], bias=True),
    }


def _spatial(layer: nn.Conv2d, rank: int) -> dict[str, nn.Module]:
    rows, columns = _split(matrices(layer, "spatial")[0], rank)
    outputs, inputs, high, wide = layer.weight.shape
    first = rows.T.reshape(rank, inputs, high, 1)
    last = columns.reshape(rank, outputs, 1, wide).transpose(0, 1)
    return {
        "first": _conv(layer, first, axes=(0,)),
        "last": _conv(layer, last, axes=(1,), bias=True),
    }


def _tucker2(layer: nn.Conv2d, inputs: int, outputs: int) -> dict[str, nn.Module]:
    into, out = _orthogonal_iteration(layer.weight.detach().double().cpu(), inputs, outputs)
    core = torch.einsum("oihw,op,iq->pqhw", layer.weight.detach().double().cpu(), out, into)
    return {
        "first": _conv(layer, into.T[:, :, None, None]),
        "core": _conv(layer, core, axes=(0, 1)),
        "last": _conv(layer, out[:, :, None, None], bias=True),
    }


_CONVOLUTIONS: dict[Method, Any] = {"svd": _svd, "spatial": _spatial, "tucker2": _tucker2}


def _orthogonal_iteration(weight: Tensor, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Bases of inputs [I, inputs] and outputs [O, outputs]: higher-order SVD, then refined.

    Reference:
        De Lathauwer, De Moor, Vandewalle, On the best rank-1 and rank-(R1, R2, ..., RN)
        approximation of higher-order tensors, SIAM J. Matrix Anal. Appl. 2000.
    """
    into = _basis(weight.transpose(0, 1).flatten(1), inputs)
    out = _basis(weight.flatten(1), outputs)
    for _ in range(SWEEPS):
        into = _basis(torch.einsum("oihw,op->iphw", weight, out).flatten(1), inputs)
        out = _basis(torch.einsum("oihw,iq->oqhw", weight, into).flatten(1), outputs)
    return into, out


def _basis(matrix: Tensor, rank: int) -> Tensor:
    """The first left singular vectors [rows, rank], each with its largest entry positive."""
    left, _, _ = torch.linalg.svd(matrix, full_matrices=rank > matrix.shape[1])
    return _signed(left[:, :rank])[0]


def _split(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The nearest matrix of this rank as a product, its scale shared equally."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    left, signs = _signed(left[:, :rank])
    scale = values[:rank].sqrt()
    return left * scale, scale[:, None] * signs[:, None] * right[:rank]


def _signed(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Columns turned so that the entry of largest magnitude is positive, and the signs."""
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))[0]
    signs = torch.where(largest < 0, -1.0, 1.0).to(vectors.dtype)
    return vectors * signs, signs


def _conv(
    layer: nn.Conv2d, weight: Tensor, *, axes: Sequence[int] = (), bias: bool = False
) -> nn.Module:
    """A convolution that steps, pads and dilates as `layer` along `axes` (0: height, 1: width)."""
    padding: Any = layer.padding
    if not isinstance(padding, str):
        padding = tuple(p if axis in axes else 0 for axis, p in enumerate(padding))
    made = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        cast(tuple[int, int], tuple(weight.shape[2:])),
        stride=cast(Any, tuple(s if axis in axes else 1 for axis, s in enumerate(layer.stride))),
        padding=padding,
        dilation=cast(
            Any, tuple(d if axis in axes else 1 for axis, d in enumerate(layer.dilation))
        ),
        bias=bias and layer.bias is not None,
        padding_mode=layer.padding_mode,
        device="meta",  # the constructor draws no random weights
    )
    return _filled(made, layer, weight, layer.bias if bias else None)


def _filled(made: Any, layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer with these weights, in the type, on the device and as frozen as `layer`."""
    old = layer.weight
    own = weight.to(old).contiguous()
    made.weight = nn.Parameter(own, requires_grad=old.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return cast(nn.Module, made)
