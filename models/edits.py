"""What a compressor decided, as data, and the one code path that performs it.

Applying edits and loading an artifact are the same functions, so the check of a compression is
also the check of its reload. No dependency graph is needed: `Edits.removed` names every module
that loses channels.
"""

import base64
import copy
import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from core.digest import digest
from core.errors import IncompatibleModel, unknown
from models.channels import Kept, cut, kept_channels, kept_of
from models.replacements import Replacement, made_of, why_bound

Side = Literal["in", "out"]
Sides = Mapping[Side, Sequence[int]]

_ATTRIBUTE = "_applied_edits"


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """What to do to a model, in its numbering before: zero, take out, then put others in place.

    Args:
        removed: Module name -> removed input (`in`) and output (`out`) channels. Norms and other
            layers whose outputs are their inputs have `out` alone. A bare parameter stands under
            its own name; its channels are its last dimension longer than 1. So does a size that
            a module keeps as an attribute, as many channels as it says.
        masked: Parameter name -> bool, the parameter's shape; True = zero for ever.
        replaced: Module name -> `{"_target_": class of models.replacements.Replacement, ...}` with
            the arguments of its `of`; JSON. Made of the module after its channels were taken out.

    Example:
        >>> edits = Edits(removed={"conv": {"out": [2, 0, 2]}})
        >>> edits.to_json()["removed"]
        {'conv': {'out': [0, 2]}}
    """

    removed: Mapping[str, Sides] = field(default_factory=dict)
    masked: Mapping[str, Tensor] = field(default_factory=dict)
    replaced: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tidy: dict[str, dict[Side, list[int]]] = {}
        for name, sides in self.removed.items():
            kept = {side: sorted({int(i) for i in ids}) for side, ids in sides.items() if ids}
            if kept:
                tidy[name] = kept
        object.__setattr__(self, "removed", tidy)
        object.__setattr__(self, "masked", {n: m for n, m in self.masked.items() if m.any()})

    @property
    def is_empty(self) -> bool:
        """Whether nothing is done."""
        return not (self.removed or self.masked or self.replaced)

    def merge(self, *others: "Edits") -> "Edits":
        """Union with edits decided on the same model; all have one numbering.

        Of several replacements of a layer, the last counts.

        Example:
            >>> one = Edits(removed={"a": {"out": [0]}})
            >>> one.merge(Edits(removed={"a": {"out": [1], "in": [3]}})).removed
            {'a': {'out': [0, 1], 'in': [3]}}
        """
        removed: dict[str, dict[Side, list[int]]] = {}
        masked: dict[str, Tensor] = {}
        replaced: dict[str, Mapping[str, Any]] = {}
        for edits in (self, *others):
            for name, sides in edits.removed.items():
                for side, channels in sides.items():
                    removed.setdefault(name, {}).setdefault(side, []).extend(channels)
            for name, mask in edits.masked.items():
                masked[name] = masked[name] | mask if name in masked else mask
            replaced |= edits.replaced
        return Edits(removed=removed, masked=masked, replaced=replaced)

    def to_json(self) -> dict[str, Any]:
        """JSON form; masks are packed bits, deflated, in base64."""
        return {
            "removed": {name: dict(sides) for name, sides in self.removed.items()},
            "masked": {name: _pack(mask) for name, mask in self.masked.items()},
            "replaced": {name: dict(spec) for name, spec in self.replaced.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Edits":
        """Inverse of `to_json`."""
        masked = {name: _unpack(packed) for name, packed in value["masked"].items()}
        return cls(removed=value["removed"], masked=masked, replaced=value.get("replaced", {}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edits) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(digest(self.to_json()))


@dataclass(frozen=True)
class _Applied:
    """What was done to a model, in order, and which of its entries have to stay zero."""

    steps: tuple[Edits, ...] = ()
    zeros: Mapping[str, Tensor] = field(default_factory=dict)


def history(model: nn.Module) -> tuple[Edits, ...]:
    """Edits that made `model` out of what its constructor builds, in order."""
    return _applied(model).steps


def perform(model: nn.Module, edits: Edits) -> None:
    """Perform `edits` in place: zero what is masked, take channels out for good, replace layers.

    Raises:
        LookupError: A name is not in the model.
        ValueError: A channel or a mask does not fit the module it names.
        IncompatibleModel: A module cannot lose these channels and stay what it is, or a layer
            cannot be replaced in this way.
    """
    zeros = _zero(model, edits)
    for name, sides in edits.removed.items():
        zeros.update(_remove_channels(model, name, sides, zeros))
    _replace_layers(model, edits)
    zeros = dict(_held(model, zeros, edits.replaced))
    done = _Applied(steps=(*history(model), edits), zeros=zeros)
    setattr(_network(model), _ATTRIBUTE, done)


def mask(model: nn.Module, edits: Edits) -> None:
    """Zero in place what `perform` would take out; the function of the model is the same.

    A layer that computes across channels is wrapped, so that it sees the kept ones alone: names
    inside the model may change. Layers that are replaced are replaced here too.

    Raises:
        ValueError: A layer would lose channels and be replaced: its masked form has no replacement.
    """
    both = sorted(edits.replaced.keys() & edits.removed.keys())
    if both:
        raise ValueError(
            f"expected removal and replacement in steps of their own, got both: {both}"
        )
    _zero(model, edits)
    for name, sides in edits.removed.items():
        if _size(model, name) is not None:
            continue
        module = _find(model, name)
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) or _cuts_itself(module):
            _replace(model, name, _KeptOnly(module, sides))
            continue
        for tensor_name, kept in _kept(name, module, sides).entries.items():
            tensor = module if isinstance(module, nn.Parameter) else getattr(module, tensor_name)
            _keep(tensor, kept)
    _replace_layers(model, edits)


def sketch(model: nn.Module) -> nn.Module:
    """A copy to run, and to perform or mask edits on, whose parameters lie where the model's lie.

    Edits write into no tensor, they put others in its place; whoever writes into a parameter of the
    copy writes into the model. Buffers are copied: a forward pass may write into them.
    """
    with torch.inference_mode(False):
        memo: dict[int, Any] = {id(p): _aside(p) for p in model.parameters()}
        memo |= {id(buffer): buffer.detach().clone() for buffer in model.buffers()}
        held = (value for part in model.modules() for value in vars(part).values())
        # what holds nothing, as most hooks do, is made anew faster than it is copied
        memo |= {id(v): type(v)() for v in held if type(v) in (dict, OrderedDict) and not v}
        return copy.deepcopy(model, memo)


def _aside(parameter: nn.Parameter) -> nn.Parameter:
    """Another parameter with the same entries; a tensor of inference mode cannot be trained."""
    entries = parameter.detach()
    entries = entries.clone() if entries.is_inference() else entries
    return nn.Parameter(entries, requires_grad=parameter.requires_grad)


def enforce(model: nn.Module) -> None:
    """Restore in place what edits of `model` hold fixed; call it after an optimizer.

    That is zeros of what was masked, and what layers that were put in keep while they are trained.
    """
    for name, entries in zeros_of(model).items():
        parameter = model.get_parameter(name)
        with torch.no_grad():
            parameter.masked_fill_(entries.to(parameter.device), 0)
    for kind in {type(part): None for part in model.modules() if isinstance(part, Replacement)}:
        kind.after_step(model)


def zeros_of(model: nn.Module) -> Mapping[str, Tensor]:
    """Entries that have to stay zero: parameter name -> bool, its shape as it is now."""
    return _applied(model).zeros


def _replace_layers(model: nn.Module, edits: Edits) -> None:
    for name, spec in edits.replaced.items():
        layer = _find(model, name)
        if obstacle := why_bound(model, layer):
            raise IncompatibleModel(f"{name} cannot be replaced: {obstacle}")
        _replace(model, name, made_of(layer, spec))


def _held(
    model: nn.Module, zeros: Mapping[str, Tensor], replaced: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Entries that have to stay zero by the names they have now, without those that are gone."""
    for name, entries in zeros.items():
        layer = next((layer for layer in replaced if name.startswith(f"{layer}.")), None)
        if layer is None:
            yield name, entries
        elif held := _find(model, layer).holds:
            yield f"{layer}.{held}{name.removeprefix(layer)}", entries


def _network(model: nn.Module) -> nn.Module:
    """Where the memory of edits lies: it goes where a classifier's backbone goes."""
    return cast(nn.Module, getattr(model, "backbone", model))


def _applied(model: nn.Module) -> _Applied:
    return getattr(_network(model), _ATTRIBUTE, None) or _Applied()


def _zero(model: nn.Module, edits: Edits) -> dict[str, Tensor]:
    """Zero the masked entries; returns all that have to stay zero, also from earlier edits."""
    zeros = dict(_applied(model).zeros)
    for name, entries in edits.masked.items():
        parameter = _find(model, name)
        if not isinstance(parameter, nn.Parameter) or parameter.shape != entries.shape:
            raise ValueError(
                f"expected a mask of the shape of the parameter {name!r}, "
                f"got {list(entries.shape)} for {list(getattr(parameter, 'shape', []))}"
            )
        _keep(parameter, ~entries)
        zeros[name] = entries | zeros[name] if name in zeros else entries
    return zeros


def _remove_channels(
    model: nn.Module, name: str, sides: Sides, zeros: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Cut one module in place; returns its part of `zeros`, cut alike."""
    size = _size(model, name)
    if size is not None:
        _replace(model, name, int(kept_channels(size, sides["out"]).sum()))
        return {}
    module = _find(model, name)
    if _cuts_itself(module):
        _keep_channels(module, sides)
        return {}
    kept = _kept(name, module, sides)
    if isinstance(module, nn.Parameter):
        _replace(model, name, _cut_parameter(module, kept.entries[""]))
        return {name: cut(zeros[name], kept.entries[""])} if name in zeros else {}
    for tensor_name, entries in kept.entries.items():
        old = getattr(module, tensor_name)
        new = _cut_parameter if isinstance(old, nn.Parameter) else cut
        setattr(module, tensor_name, new(old, entries))
    for attribute, value in kept.attributes.items():
        setattr(module, attribute, value)
    full_names = {f"{name}.{tensor_name}": e for tensor_name, e in kept.entries.items()}
    return {full: cut(zeros[full], e) for full, e in full_names.items() if full in zeros}


def _kept(name: str, module: Any, sides: Sides) -> Kept:
    """`kept_of`, for bare parameters too; errors name the module."""
    inputs, outputs = sides.get("in", ()), sides.get("out", ())
    try:
        if not isinstance(module, nn.Parameter):
            return kept_of(module, inputs=inputs, outputs=outputs)
        dim = channel_dim(module)
        shape = [-1 if d == dim else 1 for d in range(module.ndim)]
        kept = kept_channels(module.shape[dim], outputs).view(shape)
        return Kept(entries={"": kept.expand(module.shape)})
    except (IncompatibleModel, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def channel_dim(parameter: Tensor) -> int:
    """Dimension of a bare parameter that holds its channels: the last one longer than 1.

    Example:
        >>> channel_dim(torch.zeros(1, 8, 1, 1))
        1
    """
    longer = [dim for dim, size in enumerate(parameter.shape) if size > 1]
    if not longer:
        raise IncompatibleModel("a parameter with one entry has no channels to remove")
    return longer[-1]


class _KeptOnly(nn.Module):
    """The removed form of a layer between full-width tensors: zeros stand for what is gone."""

    def __init__(self, module: nn.Module, sides: Sides) -> None:
        super().__init__()
        holder = nn.ModuleDict({"narrow": copy.deepcopy(module)})
        _remove_channels(holder, "narrow", sides, {})
        self.full, self.narrow = module, holder["narrow"]
        self.removed_outputs = sides.get("out", ())
        self.removed_inputs = sides.get("in", ()) if _cuts_itself(module) else self.removed_outputs
        # Its own name tells a norm over the channels of [N, K, H, W] from one over [..., K].
        last = isinstance(module, nn.LayerNorm) and not type(module).__name__.endswith("2d")
        self.dim = -1 if last else 1

    def forward(self, inputs: Tensor) -> Tensor:
        """Select, run the narrow layer, put zeros back."""
        blank = torch.zeros_like(self.full(inputs))
        inside = kept_channels(inputs.shape[self.dim], self.removed_inputs).nonzero().flatten()
        outside = kept_channels(blank.shape[self.dim], self.removed_outputs).nonzero().flatten()
        narrow = self.narrow(inputs.index_select(self.dim, inside.to(inputs.device)))
        return blank.index_copy(self.dim, outside.to(blank.device), narrow)


def _cuts_itself(module: Any) -> bool:
    return isinstance(module, nn.Module) and hasattr(module, "keep_channels")


def _keep_channels(module: Any, sides: Sides) -> None:
    """Tell a module of ours which channels it keeps; None stands for all."""
    counts = {"in": module.inputs, "out": len(module.source)}
    inputs, outputs = (
        kept_channels(counts[side], sides[side]).nonzero().flatten() if side in sides else None
        for side in ("in", "out")
    )
    module.keep_channels(inputs, outputs)


def _keep(tensor: Tensor, kept: Tensor) -> None:
    """Zero the other entries; tensors that share the memory keep theirs."""
    for dim, stride in enumerate(kept.stride()):
        if stride == 0:  # the same along this dimension: one of them says it faster
            kept = kept.narrow(dim, 0, 1)
    tensor.data = torch.where(kept.to(tensor.device), tensor.detach(), 0)


def _cut_parameter(old: nn.Parameter, kept: Tensor) -> nn.Parameter:
    """Cut a parameter; it stays as frozen as it was."""
    return nn.Parameter(cut(old.detach(), kept), requires_grad=old.requires_grad)


def _find(model: nn.Module, name: str) -> Any:
    """Module or parameter called `name`."""
    if not name:
        return model
    *path, leaf = name.split(".")
    holder: Any = model
    for part in path:
        holder = getattr(holder, "_modules", {}).get(part)
    parts = {**getattr(holder, "_parameters", {}), **getattr(holder, "_modules", {})}
    found = parts.get(leaf)
    if found is None:
        known = [known for known, _ in model.named_modules(remove_duplicate=False) if known]
        raise LookupError(unknown("module or parameter", name, known))
    return found


def _size(model: nn.Module, name: str) -> int | None:
    """Size called `name` that a module keeps as an attribute; None where that is something else."""
    parent, _, leaf = name.rpartition(".")
    try:
        value = vars(model.get_submodule(parent)).get(leaf)
    except AttributeError:  # a bare parameter in a list, or nothing at all
        return None
    return value if type(value) is int else None


def _replace(model: nn.Module, name: str, new: nn.Module | nn.Parameter | int) -> None:
    """Put another module, parameter or size under a name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def _pack(mask: Tensor) -> dict[str, Any]:
    bits = np.packbits(mask.cpu().numpy())
    return {
        "shape": list(mask.shape),
        "bits": base64.b64encode(zlib.compress(bits.tobytes(), level=9)).decode(),
    }


def _unpack(packed: Mapping[str, Any]) -> Tensor:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed["bits"])), dtype=np.uint8)
    count = math.prod(packed["shape"])
    flags = np.unpackbits(bits, count=count).astype(bool)
    return torch.from_numpy(flags).view(packed["shape"])
