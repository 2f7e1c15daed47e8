"""Weights and masks of a compressed network as plain files."""

import copy
import io
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from compressors.analysis.conflicts import fix_mask_conflict
from compressors.base import Compressed
from compressors.pruning.trial import why_not
from compressors.tracing import prefix_of
from core.errors import ConfigError, IncompatibleModel
from core.files import write_atomically
from models.attention import KeptHeads
from models.edits import Edits, history, perform, zeros_of
from models.replacements import Replacement

log = logging.getLogger(__name__)

PICKLED = (".pth", ".pt", ".bin")
"""Names of files that `torch.load(..., weights_only=True)` reads."""

Masks = dict[str, dict[str, Tensor]]


def export_model(
    compressed: Compressed,
    model_path: str,
    mask_path: str | None = None,
    folder_name: str = ".",
    speedup: bool = False,
    dummy_input: Tensor | None = None,
) -> list[Path]:
    """Write the weights of a compressed network, and its masks.

    Args:
        compressed: What a compressor returned.
        model_path: `.safetensors`, or `.pth`, `.pt` or `.bin` for a state dict of torch; with the
            network's own names.
        mask_path: The same for the masks, `{layer: {weight, bias}}` in the shapes of the model that
            went in, True = gone or zero; safetensors has `layer.weight`. None writes none.
        folder_name: Where both go.
        speedup: Take out filters that are masked as a whole; what a compressor took out already
            stays out.
        dummy_input: One batch the model accepts, needed to take filters out.

    Returns:
        The files.

    Raises:
        ConfigError: A name ends in something else, or `dummy_input` is missing.
        IncompatibleModel: There are no weights, no masks, or no whole filters to take out.
    """
    paths = [Path(folder_name) / path for path in (model_path, mask_path) if path is not None]
    faults = [
        f"expected a name that ends in .safetensors or {', '.join(PICKLED)}, got {path.name!r}"
        for path in paths
        if path.suffix not in (".safetensors", *PICKLED)
    ]
    if faults:
        raise ConfigError(faults)
    model = compressed.model
    require_torch(model)
    masks = None if mask_path is None else masks_of(_before(compressed), model)
    if speedup and zeros_of(model):
        model = without_masked_filters(model, dummy_input)
    network = cast(nn.Module, getattr(model, "backbone", model))
    write_tensors(paths[0], network.state_dict())
    if masks is not None:
        write_tensors(paths[1], masks)
    return paths


def without_masked_filters(model: nn.Module, dummy_input: Tensor | None) -> nn.Module:
    """A copy without the filters that are zero in every layer they are tied to.

    What a norm behind such a filter added goes as well; a warning tells where that changes logits.

    Raises:
        ConfigError: There is no input to follow the network with.
        IncompatibleModel: No filter can go, or the network cannot be followed.
    """
    if dummy_input is None:
        raise ConfigError(
            ["speedup=True takes masked filters out: give dummy_input, one batch the model accepts"]
        )
    found = fix_mask_conflict(_nested(zeros_of(model), prefix_of(model)), model, dummy_input)
    if found.removal.is_empty:
        raise IncompatibleModel(
            "speedup=True takes out whole filters, and none is masked in all layers it is tied to: "
            "leave it out"
        )
    narrow = copy.deepcopy(model).eval()
    obstacle = why_not(copy.deepcopy(model).eval(), found.removal, dummy_input)
    if obstacle:
        raise IncompatibleModel(f"masked filters cannot be taken out: {obstacle}")
    perform(narrow, found.removal)
    with torch.no_grad():
        off = float((narrow(dummy_input) - copy.deepcopy(model).eval()(dummy_input)).abs().max())
    if off > 1e-5:
        log.warning("logits change by up to %.2g with what norms added to masked filters", off)
    return narrow


def masks_of(before: nn.Module, after: nn.Module) -> Masks:
    """What pruning took from a network, in the shapes it had before.

    Args:
        before: The network that was pruned.
        after: What came out, in one step or several.

    Returns:
        Short name of a layer -> its parameters: bool, True = gone or zero. Layers that lost nothing
        are left out. Of a layer that others replaced, what went before; its factors have names and
        masks of their own, in the shapes they were made with.

    Raises:
        IncompatibleModel: Nothing was taken from it.
    """
    require_torch(after)
    twin = copy.deepcopy(before)
    names = {name: name for name, _ in twin.named_parameters()}  # now -> in the masks
    shapes = {name: _numbered(parameter) for name, parameter in twin.named_parameters()}
    left: dict[str, Tensor] = {}
    for edits in (*history(after)[len(history(before)) :], Edits()):
        perform(twin, replace(edits, replaced={}))
        left |= {names[name]: parameter for name, parameter in twin.named_parameters()}
        perform(twin, Edits(replaced=edits.replaced))
        for layer in edits.replaced:
            made = cast(Replacement, twin.get_submodule(layer))
            inside = "attention" if isinstance(made, KeptHeads) else made.holds
            for part, parameter in made.named_parameters():
                name, old = f"{layer}.{part}", f"{layer}.{part.removeprefix(f'{inside}.')}"
                if inside:
                    names[name] = names[old]
                elif name not in names:
                    names[name], shapes[name] = name, _numbered(parameter)
    gone = {}
    for name, shape in shapes.items():
        mask = torch.ones(shape.numel() + 1, dtype=torch.bool)
        mask[left[name].detach().flatten().long()] = False  # a masked entry says 0
        gone[name] = mask[1:].view(shape)
    nested = _nested(gone, prefix_of(before))
    pruned = {n: parts for n, parts in nested.items() if any(m.any() for m in parts.values())}
    if not pruned:
        raise IncompatibleModel("nothing was pruned, so there are no masks")
    return pruned


def _numbered(parameter: nn.Parameter) -> torch.Size:
    """Let each entry say where it stands, counted from 1."""
    places = torch.arange(1.0, parameter.numel() + 1, dtype=torch.float64)
    parameter.data = places.view(parameter.shape)
    return parameter.shape


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors, or groups of them by name, in the format that the ending of the name says."""
    if path.suffix in PICKLED:
        buffer = io.BytesIO()
        torch.save(dict(tensors), buffer)
        write_atomically(path, buffer.getvalue())
        return
    flat: dict[str, Tensor] = {}
    for name, value in tensors.items():
        parts = value if isinstance(value, Mapping) else {"": value}
        flat |= {".".join(filter(None, (name, part))): t for part, t in parts.items()}
    write_atomically(
        path, save({n: t.detach().cpu().contiguous().clone() for n, t in flat.items()})
    )


def require_torch(model: nn.Module) -> None:
    """Refuse a model that another runtime runs.

    Raises:
        IncompatibleModel: It has no weights and no layers here.
    """
    runtime = runtime_of(model)
    if runtime != "torch":
        raise IncompatibleModel(
            f"a model run by {runtime} has no weights of its own here; export the model it was "
            "made of"
        )


def runtime_of(model: nn.Module) -> str:
    """What runs a model."""
    return str(getattr(model, "runtime", "torch"))


def _before(compressed: Compressed) -> nn.Module:
    if compressed.before is None:
        raise ConfigError(["mask_path needs `before`, the model that was compressed"])
    return compressed.before


def _nested(flat: Mapping[str, Tensor], prefix: str) -> Masks:
    """`layer.weight` -> layer -> weight, by short names."""
    nested: Masks = {}
    for name, tensor in flat.items():
        layer, _, part = name.removeprefix(prefix).rpartition(".")
        nested.setdefault(layer, {})[part] = tensor
    return nested
