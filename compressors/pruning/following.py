"""Numbers of channels on their way through one forward pass, operation by operation."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from compressors.pruning.numbering import (
    EMPTY,
    FIXED,
    Numbers,
    only_along,
    padded,
    spread,
    unexpanded,
)
from models.edits import Side, channel_dim

MOVING = frozenset(
    [
        "alias",
        "cat",
        "clone",
        "constant_pad_nd",
        "contiguous",
        "detach",
        "expand",
        "flip",
        "index",
        "index_select",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "repeat",
        "roll",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "stack",
        "reshape_alias",
        "t",
        "to_copy",
        "transpose",
        "unbind",
        "unsafe_split",
        "unsafe_view",
        "unsqueeze",
        "view",
    ]
)
POOLING = frozenset(
    [
        "avg_pool2d",
        "max_pool2d",
        "max_pool2d_with_indices",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
    ]
)
VIEWS = frozenset(["view", "unsafe_view", "reshape_alias"])
DIVIDING = VIEWS | {"stack"}
PARTING = frozenset(["split", "unsafe_split", "split_with_sizes", "unbind"])
REDUCING = frozenset(["mean", "sum", "amax", "amin", "var", "std", "softmax"])
UNTAGGED = frozenset(["copy", "hardsigmoid", "hardswish", "hardtanh", "relu6", "silu"])
"""Of one entry each, though torch does not say so."""

COUNTS = frozenset(["num_heads", "heads", "n_heads", "num_groups", "groups"])
"""Attributes that say how many parts there are; any other size says how wide something is."""

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)
LEAVES = (nn.modules.conv._ConvNd, nn.Linear, *NORMS)


class Follower(TorchDispatchMode):
    """Lets numbers go where values go; a tensor without numbers has nothing that could go.

    While it is entered, what `twin` computes is followed. Then `slots` tells the numbers at each
    side of each layer, `numbers` which of them go together, and `sizes` which attributes of modules
    count channels.

    Args:
        twin: A copy of the network, which keeps the hooks.
        whole: Whether whole heads and groups go; else the same channels go in each of them.
    """

    def __init__(self, twin: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.numbers = Numbers()
        self.slots: dict[tuple[str, Side], Tensor] = {}
        self.sizes: dict[str, int] = {}
        self._whole = whole
        self._around: list[tuple[str, nn.Module]] = []
        self._known = WeakTensorKeyDictionary()
        self._parameters = {id(p): (name, p) for name, p in twin.named_parameters()}
        self._depth = 0
        for name, module in twin.named_modules():
            if isinstance(module, LEAVES):
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leaver(name))
            else:
                module.register_forward_pre_hook(self._opener(name))
                module.register_forward_hook(lambda *_: self._around.pop() and None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, then follow it."""
        out = func(*args, **(kwargs or {}))
        if not self._depth:
            self._follow(func, args, kwargs or {}, out)
        return out

    def _enter(self, _module: nn.Module, _inputs: object) -> None:
        self._depth += 1

    def _opener(self, name: str) -> Callable[..., None]:
        return lambda module, _inputs: self._around.append((name, module))

    def _leaver(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
            self._depth -= 1
            if not self._depth:
                self._through_layer(name, module, inputs[0], out)

        return leave

    # -- layers

    def _through_layer(self, name: str, module: Any, images: Tensor, out: Tensor) -> None:
        dim = _channel_dim(module, images) % images.ndim
        labels = self._known.get(images)
        if isinstance(module, NORMS):
            if labels is None or (isinstance(module, nn.PReLU) and module.num_parameters == 1):
                self._note(out, labels)
                return
            count = images.shape[dim]
            if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
                self.numbers.fix(labels, name)
                return
            outs = self._fill(name, "out", self._along(labels, dim, count, name))
        else:
            ins = self._along(labels, dim, images.shape[dim], name)
            self._fill(name, "in", ins)
            outs = self._outputs(name, module, ins, out.shape[dim])
        self._note(out, spread(outs, dim, out.shape))

    def _outputs(self, name: str, module: Any, ins: Tensor, count: int) -> Tensor:
        """Numbers of a layer's filters; those of a depthwise layer are those of its inputs."""
        outs = self.slots.get((name, "out"))
        if outs is None:
            outs = self._fill(name, "out", self.numbers.fresh(count))
        groups = getattr(module, "groups", 1)
        if groups == len(ins) > 1:
            self.numbers.tie(outs, ins.repeat_interleave(count // groups))
        elif groups == count > 1:
            self.numbers.fix(torch.cat([ins, outs]), name)
        elif groups > 1 and self._whole:
            parts = [side.view(groups, -1) for side in (outs, ins)]
            for part in parts:
                self.numbers.tie(part, parts[0][:, :1].expand_as(part))
        return outs

    def _fill(self, name: str, side: Side, labels: Tensor) -> Tensor:
        """Keep what stands at a side of a module; of a second call, it has to go together."""
        kept = self.slots.setdefault((name, side), labels)
        if kept is not labels:
            self.numbers.tie(kept, labels)
        return kept

    def _along(self, labels: Tensor | None, dim: int, count: int, name: str) -> Tensor:
        """Numbers [count] along the channels, where they do not depend on the place."""
        if labels is None:
            return torch.full((count,), FIXED)
        if set(self._varying(labels)) - {dim}:
            self.numbers.fix(labels, name)
            return torch.full((count,), FIXED)
        return only_along(labels, [dim]).flatten()

    # -- operations

    def _follow(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        name = func.overloadpacket.__name__.strip("_")
        moving, pointwise = name in MOVING, torch.Tag.pointwise in func.tags or name in UNTAGGED
        if moving or pointwise:
            self._number_parameters(tensors)
        labelled = [t for t in tensors if t in self._known]
        if not labelled:
            return
        if pointwise:
            self._note(out, self._combined(tensors, out, name))
        elif name == "cat" and not self._joins_channels(args):
            self._note(out, self._combined([t for t in args[0] if t.numel()], out, name))
        elif moving:
            self._move(func, args, kwargs, out, labelled)
        elif name == "bmm":
            self._product(args[:2], "bik,bkj->bij", out, name)
        elif "scaled_dot_product" in name:
            self._attend(args[:3], kwargs.get("scale"), out[0], name)
        elif name in POOLING | REDUCING:
            first = out[0] if isinstance(out, tuple) else out
            mixed = (-1, -2) if name in POOLING else _reduced(args)
            self._note(first, self._pooled(labelled, first, mixed, name))
        else:
            self._fix(labelled, name)

    def _combined(self, tensors: list[Tensor], out: Tensor, name: str) -> Tensor | None:
        """Tie what an operation combines entry by entry; broadcast tensors leave others alone."""
        labelled = [(t, self._known[t]) for t in tensors if t in self._known]
        lead, labels = max(labelled, key=lambda pair: len(self._varying(pair[1], out.ndim)))
        dims = self._varying(labels, out.ndim)
        for tensor in tensors:
            sizes = [1] * (out.ndim - tensor.ndim) + [*tensor.shape]
            other = self._known.get(tensor)
            if tensor is lead:
                continue
            if all(sizes[d] == 1 for d in dims) and (other is None or dims):
                if other is not None:
                    self.numbers.fix(other, name)
            elif other is None:
                self.numbers.fix(labels, name)
            elif self._varying(other, out.ndim) != dims:
                self._fix([lead, tensor], name)
            else:
                pair = [only_along(padded(part, out.ndim), dims) for part in (labels, other)]
                self.numbers.tie(*torch.broadcast_tensors(*pair))
        shape = only_along(padded(labels, out.ndim), dims)
        return shape.expand(out.shape)

    def _joins_channels(self, args: Any) -> bool:
        """Whether a concatenation puts channels behind channels."""
        parts, dim = args[0], args[1] if len(args) > 1 else 0
        known = [self._known[t] for t in parts if t in self._known]
        return any(dim % labels.ndim in self._varying(labels) for labels in known)

    def _move(self, func: Any, args: Any, kwargs: Any, out: Any, labelled: list[Tensor]) -> None:
        """Move the numbers as the values; where channels are divided, they are fixed."""
        name = func.overloadpacket.__name__.strip("_")
        if name == "constant_pad_nd":
            args = (*args[:2], EMPTY)
        if name == "to_copy":
            moved = self._known[args[0]]
        else:
            moved = func(*tree_map(self._shadow, args), **tree_map(self._shadow, kwargs))
        single = isinstance(moved, Tensor)
        parts, outs = ([moved], [out]) if single else (list(moved), list(out))
        before = [self._known[t] for t in labelled]
        dims = max(len(self._varying(labels)) for labels in before)
        parts = [self._compact(part) for part in parts]
        divided = any(len(self._varying(part)) > dims for part in parts)
        if divided and name not in DIVIDING:
            self._fix(labelled, name)
            return
        if divided:
            parts = [self._divided(parts[0])]
        if name in PARTING and any(self._loses(before, part) for part in parts):
            if not self._parted(parts, name):
                self._fix(labelled, name)
                return
        elif any(self._loses(before, part) for part in parts):
            self._fix(labelled, name)
            return
        if name in VIEWS:
            self._resized(parts[0], COUNTS if divided and self._whole else None)
        for tensor, part in zip(outs, parts, strict=True):
            self._note(tensor, part)

    def _divided(self, labels: Tensor) -> Tensor:
        """Numbers that were spread over one more dimension: they differ along one of them only."""
        dims = self._varying(labels)
        keeping = dims[-2 if self._whole else -1]
        flat = only_along(labels, dims)
        for dim in dims:
            if dim != keeping:
                self.numbers.tie(flat, flat.narrow(dim, 0, 1).expand_as(flat))
        return self._compact(labels)

    def _parted(self, parts: list[Tensor], name: str) -> bool:
        """Whether parts of the channels can all become narrower."""
        if name == "split_with_sizes":
            resized = [self._resized(part) for part in parts]
            if all(resized):
                return True
        if any(part.shape != parts[0].shape for part in parts):
            return False
        for part in parts[1:]:
            self.numbers.tie(*torch.broadcast_tensors(unexpanded(part), unexpanded(parts[0])))
        return True

    def _resized(self, labels: Tensor, names: Collection[str] | None = None) -> bool:
        """Sizes that the module around keeps and reads go along with the channels they count.

        Args:
            labels: Behind an operation that may have been given such a size.
            names: Attributes that count; None for all but those that count parts.
        """
        dims = self._varying(labels)
        if len(dims) != 1 or not self._around:
            return False
        name, module = self._around[-1]
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        sizes = [
            key
            for key, value in vars(module).items()
            if type(value) is int
            and value == labels.shape[dims[0]]
            and key in getattr(code, "co_names", ())
            and (key in names if names is not None else key not in COUNTS)
        ]
        for key in sizes:
            full = f"{name}.{key}" if name else key
            self.sizes[full] = getattr(module, key)
            self._fill(full, "out", only_along(labels, dims).flatten())
        return bool(sizes)

    def _attend(self, tensors: Sequence[Tensor], scale: object, out: Tensor, name: str) -> None:
        """Numbers behind an attention; without a scale of its own, it asks how wide a head is."""
        queries = self._known.get(tensors[0])
        if scale is None and queries is not None and 3 in self._varying(queries):
            self._fix([tensor for tensor in tensors if tensor in self._known], name)
            return
        self._product(tensors, "bhtd,bhsd,bhsw->bhtw", out, name)

    def _product(self, tensors: Sequence[Tensor], formula: str, out: Tensor, name: str) -> None:
        """Numbers behind sums of products; what is summed over goes together.

        Args:
            tensors: What is multiplied.
            formula: Their dimensions and those of `out`, as for `torch.einsum`.
            out: The sums.
            name: Of the operation.
        """
        *letters, outward = formula.replace("->", ",").split(",")
        along: dict[str, list[Tensor]] = {}
        known = [self._known.get(tensor) for tensor in tensors]
        pairs = zip(known, letters, strict=True)
        free = [(labels, x) for labels, x in pairs if labels is not None and self._can_go(labels)]
        for labels, names in free:
            for dim in self._varying(labels):
                along.setdefault(names[dim], []).append(only_along(labels, [dim]).flatten())
        lone = any(len(a) < sum(x in names for names in letters) for x, a in along.items())
        kept = [x for x in along if x in outward]
        if lone or len(kept) > 1 or sum(map(len, along.values())) < len(free):
            self._fix([tensor for tensor in tensors if tensor in self._known], name)
            return
        for first, *others in along.values():
            for other in others:
                self.numbers.tie(first, other)
        for x in kept:
            self._note(out, spread(along[x][0], outward.index(x), out.shape))

    def _pooled(
        self, labelled: list[Tensor], out: Tensor, mixed: Sequence[int], name: str
    ) -> Tensor | None:
        """Numbers behind an operation within these dimensions; channels among them are fixed."""
        labels = self._known[labelled[0]]
        dims = self._varying(labels)
        within = {d % labels.ndim for d in mixed} or set(range(labels.ndim))
        if within & set(dims) or len(labelled) > 1:
            self._fix(labelled, name)
            return None
        flat = only_along(labels, dims)
        if out.ndim < flat.ndim:
            flat = flat.squeeze(tuple(within))
        return flat.expand(out.shape)

    # -- numbers of tensors

    def _note(self, tensor: Tensor, labels: Tensor | None) -> None:
        if labels is not None:
            self._known[tensor] = labels

    def _fix(self, labelled: list[Tensor], name: str) -> None:
        for tensor in labelled:
            self.numbers.fix(self._known[tensor], name)

    def _number_parameters(self, tensors: list[Tensor]) -> None:
        """Bare parameters have channels too."""
        for tensor in tensors:
            name, parameter = self._parameters.get(id(tensor), ("", None))
            if parameter is None or tensor in self._known or tensor.numel() < 2:
                continue
            dim = channel_dim(tensor)
            labels = self.numbers.fresh(tensor.shape[dim])
            self._known[tensor] = spread(self._fill(name, "out", labels), dim, tensor.shape)

    def _shadow(self, value: Any) -> Any:
        """Numbers in the place of values; indices stay."""
        if not isinstance(value, Tensor):
            return value
        if value in self._known:
            return self._known[value].contiguous()
        return torch.full(value.shape, FIXED) if value.is_floating_point() else value

    def _loses(self, before: list[Tensor], after: Tensor) -> bool:
        """Whether a set is not there any more."""
        table = self.numbers.roots()
        missing = torch.zeros(len(table), dtype=torch.bool)
        for part in before:
            missing[table[unexpanded(part)].flatten()] = True
        missing[table[unexpanded(after)].flatten()] = False
        missing[EMPTY] = False
        return bool(missing.any())

    def _can_go(self, labels: Tensor) -> bool:
        """Whether any of these numbers is not fixed."""
        return not self.numbers.are_fixed(unexpanded(labels))

    def _varying(self, labels: Tensor, ndim: int | None = None) -> list[int]:
        """Dimensions along which the sets differ, counted as in a tensor of `ndim` dimensions."""
        small = self.numbers.roots()[unexpanded(labels)]
        ahead = (labels.ndim if ndim is None else ndim) - labels.ndim
        return [dim + ahead for dim in range(small.ndim) if self._varies(small, dim)]

    def _varies(self, roots: Tensor, dim: int) -> bool:
        if roots.shape[dim] < 2:
            return False
        return not bool(((roots == roots.amax(dim, keepdim=True)) | (roots == EMPTY)).all())

    def _compact(self, labels: Tensor) -> Tensor:
        """The same, stored once along dimensions where nothing differs."""
        return only_along(labels, self._varying(labels)).expand(labels.shape)


def _channel_dim(module: nn.Module, images: Tensor) -> int:
    """Dimension of a layer's inputs that holds the channels."""
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, nn.LayerNorm):  # its own name tells a norm over [N, K, H, W]
        return 1 if type(module).__name__.endswith("2d") and images.ndim == 4 else -1
    return 1


def _reduced(args: Any) -> Sequence[int]:
    """Dimensions that a reduction names; none for all."""
    dims = args[1] if len(args) > 1 else ()
    if dims is None or isinstance(dims, bool):
        return ()
    return [dims] if isinstance(dims, int) else list(dims)
