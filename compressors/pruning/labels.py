"""Which channels have to go together, found by following numbered channels through the network.

Every filter gets a number, and the numbers go through one forward pass beside the values: what
moves values moves numbers, what combines values ties their numbers. Where channels are divided,
among heads or between two branches, the same ones go in each part, or whole parts go; sizes that
modules keep as attributes go along. An operation that is not known here fixes the numbers it meets:
their layers keep their filters, and all others can still lose theirs. The dependency graph gives up
on such networks.
"""

import copy
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from compressors.pruning.dependency import Touched
from core.errors import IncompatibleModel
from models.edits import Side, channel_dim

EMPTY, FIXED = 0, 1
"""Numbers of what is zero whatever happens, and of what cannot go."""

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


class LabelGraph:
    """Answers what else has to go with a layer's filters, as far as it can be followed.

    Args:
        model: In eval mode; left as it is, a copy is run.
        example_inputs: One batch, shape [N, K, H, W].
        whole: Whether whole heads and groups go; else the same channels go in each of them.

    Raises:
        IncompatibleModel: An operation does with channels what is not expected here.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor, *, whole: bool = False) -> None:
        twin = copy.deepcopy(model).eval()
        follower = _Follower(twin, whole=whole)
        try:
            with torch.no_grad(), follower:
                twin(example_inputs[:1])
        except (IndexError, RuntimeError, ValueError) as error:
            what = (str(error).splitlines() or [""])[0]
            raise IncompatibleModel(f"its channels cannot be numbered ({what})") from error
        self._modules = dict(twin.named_modules()) | dict(twin.named_parameters())
        self._modules |= follower.sizes
        self._slots, self._numbers = follower.slots, follower.numbers
        self._members: dict[int, list[tuple[str, Side, int]]] = {}
        roots = self._numbers.roots()
        for (name, side), labels in self._slots.items():
            for channel, root in enumerate(roots[labels].tolist()):
                self._members.setdefault(root, []).append((name, side, channel))

    def module(self, name: str) -> Any:
        """Module or bare parameter of the copy, or a size that one of its modules keeps."""
        return self._modules[name]

    def touched(self, layer: str, filters: Sequence[int]) -> list[Touched]:
        """Everything that goes with `filters` of `layer`, the layer itself included.

        Raises:
            IncompatibleModel: A filter meets an operation that cannot be followed.
        """
        if not filters:
            return []
        labels = self._slots.get((layer, "out"))
        if labels is None:
            raise IncompatibleModel("it is not called as a layer in the forward pass")
        root_of = dict(zip(range(len(labels)), self._numbers.roots()[labels].tolist(), strict=True))
        first: dict[int, int] = {}
        for index in filters:
            first.setdefault(root_of[index], index)
        for root in first:
            self._numbers.require_free(root)
        found: dict[tuple[str, Side], list[tuple[int, int]]] = {}
        for root, index in first.items():
            for name, side, channel in self._members[root]:
                found.setdefault((name, side), []).append((channel, index))
        return [
            Touched(name=name, side=side, channels=channels, roots=roots)
            for (name, side), pairs in found.items()
            for channels, roots in [tuple(zip(*sorted(pairs), strict=True))]
        ]


def attends(model: nn.Module, example_inputs: Tensor) -> bool:
    """Whether tokens are multiplied with tokens; dependency graphs lose their way there.

    Args:
        model: In eval mode.
        example_inputs: One batch, shape [N, K, H, W].
    """
    watch = _Watch()
    with torch.no_grad(), watch:
        model(example_inputs[:1])
    return watch.seen


class _Watch(TorchDispatchMode):
    """Notes products of two activations."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        name = func.overloadpacket.__name__
        self.seen |= name in ("bmm", "baddbmm") or "attention" in name
        return func(*args, **(kwargs or {}))


class _Numbers:
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


class _Follower(TorchDispatchMode):
    """Lets numbers go where values go; a tensor without numbers has nothing that could go."""

    def __init__(self, twin: nn.Module, *, whole: bool) -> None:
        super().__init__()
        self.numbers = _Numbers()
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
        self._note(out, _spread(outs, dim, out.shape))

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
        return _flat(labels, [dim]).flatten()

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
                pair = [_flat(_padded(part, out.ndim), dims) for part in (labels, other)]
                self.numbers.tie(*torch.broadcast_tensors(*pair))
        shape = _flat(_padded(labels, out.ndim), dims)
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
        flat = _flat(labels, dims)
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
            self.numbers.tie(*torch.broadcast_tensors(_small(part), _small(parts[0])))
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
            self._fill(full, "out", _flat(labels, dims).flatten())
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
                along.setdefault(names[dim], []).append(_flat(labels, [dim]).flatten())
        lone = any(len(a) < sum(x in names for names in letters) for x, a in along.items())
        kept = [x for x in along if x in outward]
        if lone or len(kept) > 1 or sum(map(len, along.values())) < len(free):
            self._fix([tensor for tensor in tensors if tensor in self._known], name)
            return
        for first, *others in along.values():
            for other in others:
                self.numbers.tie(first, other)
        for x in kept:
            self._note(out, _spread(along[x][0], outward.index(x), out.shape))

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
        flat = _flat(labels, dims)
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
            self._known[tensor] = _spread(self._fill(name, "out", labels), dim, tensor.shape)

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
            missing[table[_small(part)].flatten()] = True
        missing[table[_small(after)].flatten()] = False
        missing[EMPTY] = False
        return bool(missing.any())

    def _can_go(self, labels: Tensor) -> bool:
        """Whether any of these numbers is not fixed."""
        return not self.numbers.are_fixed(_small(labels))

    def _varying(self, labels: Tensor, ndim: int | None = None) -> list[int]:
        """Dimensions along which the sets differ, counted as in a tensor of `ndim` dimensions."""
        small = self.numbers.roots()[_small(labels)]
        ahead = (labels.ndim if ndim is None else ndim) - labels.ndim
        return [dim + ahead for dim in range(small.ndim) if self._varies(small, dim)]

    def _varies(self, roots: Tensor, dim: int) -> bool:
        if roots.shape[dim] < 2:
            return False
        return not bool(((roots == roots.amax(dim, keepdim=True)) | (roots == EMPTY)).all())

    def _compact(self, labels: Tensor) -> Tensor:
        """The same, stored once along dimensions where nothing differs."""
        return _flat(labels, self._varying(labels)).expand(labels.shape)


def _channel_dim(module: nn.Module, images: Tensor) -> int:
    """Dimension of a layer's inputs that holds the channels."""
    if isinstance(module, nn.Linear):
        return -1
    if isinstance(module, nn.LayerNorm):  # its own name tells a norm over [N, K, H, W]
        return 1 if type(module).__name__.endswith("2d") and images.ndim == 4 else -1
    return 1


def _spread(labels: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """Numbers [channels] as those of a tensor."""
    return labels.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(*shape)


def _small(labels: Tensor) -> Tensor:
    """Without repetition along expanded dimensions."""
    for dim, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[dim] > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def _flat(labels: Tensor, kept: Sequence[int]) -> Tensor:
    """One entry along all dimensions but these; there, what is not zero."""
    small = _small(labels)
    others = [d for d in range(small.ndim) if d not in kept and small.shape[d] > 1]
    return small.amax(dim=others, keepdim=True) if others else small


def _padded(labels: Tensor, ndim: int) -> Tensor:
    return labels[(None,) * (ndim - labels.ndim)]


def _reduced(args: Any) -> Sequence[int]:
    """Dimensions that a reduction names; none for all."""
    dims = args[1] if len(args) > 1 else ()
    if dims is None or isinstance(dims, bool):
        return ()
    return [dims] if isinstance(dims, int) else list(dims)
