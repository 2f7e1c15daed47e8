"""Which entries of a module's tensors belong to the channels that stay.

One question answers everything a channel removal needs: for each parameter and buffer, the mask of
entries kept. Removing cuts the tensors down to it, masking zeroes the rest of them.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from core.errors import IncompatibleModel


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays of one module.

    Args:
        entries: Tensor name -> bool mask of the entries kept, of the tensor's own shape.
        attributes: Attribute name -> value after the removal, such as `out_channels`.
    """

    entries: dict[str, Tensor]
    attributes: dict[str, Any] = field(default_factory=dict)


def kept_channels(count: int, removed: Collection[int]) -> Tensor:
    """Bool mask [count] of the channels that stay.

    Example:
        >>> kept_channels(4, [1, 3]).tolist()
        [True, False, True, False]
    """
    outside = sorted(index for index in removed if not 0 <= index < count)
    if outside:
        raise ValueError(f"expected channels in [0, {count}), got {outside[:5]}")
    mask = torch.ones(count, dtype=torch.bool)
    mask[torch.tensor([*removed], dtype=torch.long)] = False
    return mask


def cut(tensor: Tensor, kept: Tensor) -> Tensor:
    """The kept entries of `tensor`, in its own order.

    Args:
        tensor: Any shape.
        kept: Bool, same shape; every row that keeps anything keeps equally many columns, and
            along any further dimension the same positions.

    Example:
        >>> tensor = torch.arange(6).view(2, 3)
        >>> cut(tensor, torch.tensor([[False] * 3, [True, False, True]])).tolist()
        [[3, 5]]
    """
    kept = kept.to(tensor.device)
    if tensor.ndim < 2:
        return tensor[kept]
    if any(kept.stride(d) and kept.shape[d] > 1 for d in range(2, kept.ndim)):
        return _cut_deep(tensor, kept)
    plane = kept if kept.ndim == 2 else kept.flatten(2)[:, :, 0]  # equal at every further position
    rows, columns = (plane.view(torch.uint8).amax(dim).bool() for dim in (1, 0))  # `any` is slow
    width = int(plane[rows][0].sum())
    if width < int(columns.sum()):  # groups keep columns of their own
        return tensor[plane].view(-1, width, *tensor.shape[2:])
    whole = tensor.index_select(0, rows.nonzero().flatten())
    return whole.index_select(1, columns.nonzero().flatten())


def _cut_deep(tensor: Tensor, kept: Tensor) -> Tensor:
    """`cut` where something goes along a further dimension."""
    columns = kept.flatten(2).any(dim=2)
    rows = columns.any(dim=1)
    width = int(columns[rows][0].sum())
    deeper = [int(kept.transpose(0, d).flatten(1).any(dim=1).sum()) for d in range(2, kept.ndim)]
    return tensor[kept].view(int(rows.sum()), width, *deeper)


def kept_of(module: nn.Module, *, inputs: Collection[int], outputs: Collection[int]) -> Kept:
    """What stays of `module` without some input and output channels.

    Layers whose outputs are their inputs (norms, PReLU, embeddings) take `outputs` alone.

    Raises:
        IncompatibleModel: This type of layer, or this choice, leaves no layer of the same type.
        ValueError: A channel is outside the layer.
    """
    if isinstance(module, _ConvNd):
        return _kept_of_convolution(module, inputs, outputs)
    if isinstance(module, nn.Linear):
        return _kept_of_linear(module, inputs, outputs)
    if inputs:
        raise ValueError(
            f"the outputs of a {type(module).__name__} are its inputs: give `out` alone, got `in`"
        )
    if isinstance(module, nn.GroupNorm):
        return _kept_of_group_norm(module, outputs)
    for kind, (tensors, attribute) in _ONE_SIDED.items():
        if isinstance(module, kind):
            return _kept_of_one_sided(module, tensors, attribute, outputs)
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        kept = kept_channels(module.normalized_shape[0], outputs)
        return Kept(
            entries=_where_present(module, dict.fromkeys(("weight", "bias"), kept)),
            attributes={"normalized_shape": (int(kept.sum()),)},
        )
    raise IncompatibleModel(f"channels of a {type(module).__name__} cannot be removed")


_ONE_SIDED: dict[type[nn.Module], tuple[tuple[str, ...], str]] = {
    _NormBase: (("weight", "bias", "running_mean", "running_var"), "num_features"),
    nn.PReLU: (("weight",), "num_parameters"),
    nn.Embedding: (("weight",), "embedding_dim"),
    nn.EmbeddingBag: (("weight",), "embedding_dim"),
}


def _kept_of_one_sided(
    module: nn.Module, tensors: tuple[str, ...], attribute: str, outputs: Collection[int]
) -> Kept:
    kept = kept_channels(getattr(module, attribute), outputs)
    present = _where_present(module, dict.fromkeys(tensors, kept))
    entries = {name: mask.expand(getattr(module, name).shape) for name, mask in present.items()}
    return Kept(entries=entries, attributes={attribute: int(kept.sum())})


def _kept_of_linear(module: nn.Linear, inputs: Collection[int], outputs: Collection[int]) -> Kept:
    columns = kept_channels(module.in_features, inputs)
    rows = kept_channels(module.out_features, outputs)
    entries = {"weight": _both(rows[:, None], columns[None, :]), "bias": rows}
    return Kept(
        entries=_where_present(module, entries),
        attributes={"in_features": int(columns.sum()), "out_features": int(rows.sum())},
    )


def _kept_of_convolution(
    module: _ConvNd, inputs: Collection[int], outputs: Collection[int]
) -> Kept:
    groups = module.groups
    ins = kept_channels(module.in_channels, inputs).view(groups, -1)
    outs = kept_channels(module.out_channels, outputs).view(groups, -1)
    alive = _equal_groups("convolution", ins, outs)
    if module.transposed:  # weight [in, out / groups, ...]
        plane = _both(ins[:, :, None], outs[:, None, :]).flatten(0, 1)
    else:  # weight [out, in / groups, ...]
        plane = _both(outs[:, :, None], ins[:, None, :]).flatten(0, 1)
    weight = plane.view(*plane.shape, *[1] * (module.weight.ndim - 2)).expand(module.weight.shape)
    return Kept(
        entries=_where_present(module, {"weight": weight, "bias": outs.flatten()}),
        attributes={
            "in_channels": int(ins.sum()),
            "out_channels": int(outs.sum()),
            "groups": alive,
        },
    )


def _both(one: Tensor, other: Tensor) -> Tensor:
    """`one & other`, as bytes: fifteen times as fast."""
    return (one.view(torch.uint8) & other.view(torch.uint8)).view(torch.bool)


def _kept_of_group_norm(module: nn.GroupNorm, outputs: Collection[int]) -> Kept:
    kept = kept_channels(module.num_channels, outputs)
    alive = _equal_groups("GroupNorm", kept.view(module.num_groups, -1))
    return Kept(
        entries=_where_present(module, dict.fromkeys(("weight", "bias"), kept)),
        attributes={"num_channels": int(kept.sum()), "num_groups": alive},
    )


def _equal_groups(what: str, *sides: Tensor) -> int:
    """Number of groups that are left; each side is the kept channels [groups, channels]."""
    counts = torch.stack([side.sum(dim=1) for side in sides])
    left = counts[:, counts.any(dim=0)]
    if left.numel() and bool((left == left[:, :1]).all() and left.all()):
        return left.shape[1]
    raise IncompatibleModel(
        f"a {what} needs equally many channels in each group that is left, "
        f"got {' and '.join(str(sorted(set(side))) for side in left.tolist())} a group"
    )


def _where_present(module: nn.Module, entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the tensors a module was built without, such as `bias`."""
    return {name: kept for name, kept in entries.items() if getattr(module, name) is not None}
