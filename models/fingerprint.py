"""The key of a model: a digest of what it computes, of nothing else.

Equal for a renamed checkpoint, a deep copy, another process and another device. Different for one
changed weight, a changed class, another option of a layer. Masks and parametrizations count as the
weights they result in.
"""

import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, prune

from core.digest import digest
from core.errors import IncompatibleModel
from models.modes import evaluating
from models.values import Values, digest_tensor, is_foreign

OF_TORCH = frozenset(vars(nn.Module()))
"""Parameters, buffers, parts and forward hooks are described for themselves; the other hooks and
the mode say nothing about the logits."""

OF_LIGHTNING = frozenset(vars(pl.LightningModule())) | {"_hparams_initial", "_hparams_name"}
"""What Lightning notes about a run: trainer, device, what is frozen."""

OF_OURS = frozenset(
    {
        *("arguments", "constructor"),  # `own_options` are those that count
        *(
            "timm_name",
            "pretrained",
            "requested_classes",
        ),  # origin; what came of it is in the parts
        *("optimization", "objective", "augmentation"),  # training; the weights are what came of it
        *("model_name", "_baseline", "achieved"),  # how results are grouped, what is known
        *("compute_dtype", "compiled", "_preprocessing"),  # parts of a record's key of their own
    }
)

OF_NETWORKS = frozenset(
    {
        "_applied_edits",  # what was removed is gone from the parts
        "_compiled_call_impl",  # the same function, faster
        *("default_cfg", "pretrained_cfg", "_model_args", "_traits"),  # origin, noted by timm
        "attention_bias_cache",  # made of the biases by a forward pass of timm
        *("_is_hf_initialized", "_initializing"),  # how far a library is with building it
    }
)

METERS = frozenset({"val_accuracy", "test_accuracy"})
"""Parts of a classifier while it is trained: they are for display."""


def fingerprint(module: nn.Module) -> str:
    """Digest of a model, 32 hexadecimal digits.

    Args:
        module: Left as it is; its device and mode do not matter.

    Raises:
        IncompatibleModel: An attribute has a state that cannot be read; the text names it.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = fingerprint(layer)
        >>> layer.weight.data[0, 0] += 1
        >>> fingerprint(layer) == before
        False
    """
    versions = {name: version(name) for name in ("timm", "torchvision")}
    return digest({**_describe(module, {}), "versions": versions})


def _describe(module: nn.Module, around: Mapping[int, str]) -> dict[str, Any]:
    """Everything of a network that decides its output, as JSON.

    Args:
        module: The network.
        around: Names, by id, of the parts of networks that hold this one outside their parts.
    """
    names = {id(part): f"{len(around)}:{name}" for name, part in module.named_modules()}
    known = {**names, **around}

    def held(other: nn.Module) -> object:
        return known.get(id(other)) or _describe(other, known)

    values = Values(held)
    return {
        "tensors": {name: digest_tensor(t) for name, t in baked_tensors(module).items()},
        "structure": list(_structure(module, values)),
        "options": _readable(values, own_options(module), "argument", module),
        "sources": _sources(module, values),
    }


def baked_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer as the forward pass uses it, detached, on its device.

    Buffers that a state dict leaves out are in it: they decide the output as well. What a mask or
    a parametrization is made of is replaced by its result.
    """
    tensors = {name: t.detach() for name, t in module.named_parameters(remove_duplicate=False)}
    tensors |= {name: t.detach() for name, t in module.named_buffers(remove_duplicate=False)}
    with evaluating(module), torch.no_grad():
        for prefix, part in module.named_modules():
            stem = f"{prefix}." if prefix else ""
            for name in _masked(part):
                mask = tensors.pop(f"{stem}{name}_mask")
                tensors[stem + name] = tensors.pop(f"{stem}{name}_orig") * mask
            for name in part.parametrizations if parametrize.is_parametrized(part) else ():
                inner = f"{stem}parametrizations.{name}."
                tensors = {key: t for key, t in tensors.items() if not key.startswith(inner)}
                tensors[stem + name] = getattr(part, name).detach()
    return tensors


def _masked(module: nn.Module) -> list[str]:
    """Names of the parameters under a mask of `torch.nn.utils.prune`."""
    hooks = module._forward_pre_hooks.values()
    return [hook._tensor_name for hook in hooks if isinstance(hook, prune.BasePruningMethod)]


def _structure(module: nn.Module, values: Values) -> Iterator[list[Any]]:
    """Name, class, printed form, attributes and hooks of every part of the network.

    The printed form alone is not enough: attention heads, for one, are not in it. A part that is
    used in several places has several names.
    """
    for name, part in module.named_modules(remove_duplicate=False):
        if not _is_parametrization(name) and name not in METERS:
            kind = parametrize.type_before_parametrizations(part)
            where = f"attribute of {name or 'the model'}:"
            attributes = _readable(values, _attributes(part), where, part)
            hooks = _readable(values, _hooks(part), where, part)
            yield [name, kind.__qualname__, part.extra_repr(), attributes, hooks]


def _attributes(part: nn.Module) -> dict[str, Any]:
    """What a part holds beside its parameters, buffers and parts, and what decides its output."""
    from models.base_model import ClassifierModule

    left_out = OF_TORCH | OF_NETWORKS | set(_masked(part))  # the result of a mask is a tensor
    if isinstance(part, pl.LightningModule):
        left_out |= OF_LIGHTNING
    if isinstance(part, ClassifierModule):
        left_out |= OF_OURS
    if isinstance(part, fx.GraphModule):
        left_out |= {"meta"}  # notes of whoever traced it
    found = {name: value for name, value in vars(part).items() if name not in left_out}
    if isinstance(part, ClassifierModule) and "_hparams" in found:
        found["_hparams"] = _own(found["_hparams"])
    if not found.get("_hparams", True):
        del found["_hparams"]  # Lightning makes an empty one when it looks for them
    return found


def _hooks(part: nn.Module) -> dict[str, Any]:
    """Hooks of the forward pass in their order, without those whose masks are baked."""
    found = {}
    for kind in ("_forward_pre_hooks", "_forward_hooks"):
        with_names = getattr(part, f"{kind}_with_kwargs")
        found[kind] = [
            (hook, key in with_names)
            for key, hook in getattr(part, kind).items()
            if not isinstance(hook, prune.BasePruningMethod)
        ]
    return {kind: hooks for kind, hooks in found.items() if hooks}


def _readable(
    values: Values, named: Mapping[str, Any], what: str, owner: nn.Module
) -> dict[str, Any]:
    """Forms of values by name.

    Raises:
        IncompatibleModel: One has none; two models that differ in it would share their records.
    """
    forms = {}
    for name, value in sorted(named.items()):
        try:
            forms[name] = values.of(value)
        except (IncompatibleModel, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise IncompatibleModel(
                f"expected values that can be described in {type(owner).__name__}, got {what} "
                f"{name}, which is or holds {reason}; keep it outside the model, or give its class "
                "a __getstate__ of plain values"
            ) from error
    return forms


def own_options(module: nn.Module) -> dict[str, Any]:
    """Constructor arguments that a subclass of ClassifierModule brought in.

    Those of ClassifierModule itself say where weights come from, how they are trained, and in
    which precision they are used; the precision is part of a record's key of its own.
    """
    from models.base_model import ClassifierModule

    return _own(module.arguments) if isinstance(module, ClassifierModule) else {}


def _own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    from models.base_model import ClassifierModule

    common = inspect.signature(ClassifierModule.__init__).parameters
    return {name: value for name, value in arguments.items() if name not in common}


def _sources(module: nn.Module, values: Values) -> list[tuple[str, str]]:
    """Name and source digest of every class in the tree that no package version stands for.

    The whole file counts: what a class calls is mostly beside it.
    """
    parts = [part for name, part in module.named_modules() if not _is_parametrization(name)]
    classes = {base for part in parts for base in type(part).__mro__}
    return sorted(
        {(kind.__qualname__, values.source(kind)) for kind in classes if not is_foreign(kind)}
    )


def _is_parametrization(name: str) -> bool:
    return "parametrizations" in name.split(".")


def source_of(kind: type) -> str:
    """Digest of the file a class was made in; of its members where it was made in none."""
    return Values().source(kind)
