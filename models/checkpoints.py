"""Weights from files that others made: read without running them, loaded whole or not at all."""

import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from core.errors import DataError
from models.download import fetch, is_url
from models.fingerprint import own_options

if TYPE_CHECKING:
    from models.base_model import ClassifierModule

PREFIXES = ("module.", "backbone.", "_orig_mod.", "model.")
"""What wrappers put before a name: data parallelism, Lightning modules, compiled modules."""

LEVELS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the weights, beside epochs and optimizers."""

ADOPTED = (
    *("backbone", "head_name", "num_classes", "preprocessing", "baseline"),
    *("arguments", "constructor"),
)
"""What a model that is loaded from an artifact takes over."""

SHOWN = 20
"""Names listed for each kind of mismatch; a wholly different network has hundreds."""


def load_weights(module: "ClassifierModule | nn.Module", source: str) -> None:
    """Load a checkpoint into a model, in place.

    Args:
        module: A ClassifierModule, of which the backbone is loaded, or any other module.
        source: Path of a file or of an artifact folder, or a URL.

    Raises:
        FileNotFoundError: There is nothing at the path.
        DataError: It is no checkpoint, is damaged, would run code, or does not fit; nothing
            has been loaded then.
    """
    path = fetch(source) if is_url(source) else Path(source).expanduser()
    if (path / "architecture.json").is_file():
        _adopt_artifact(module, path)
        return
    network = cast(nn.Module, getattr(module, "backbone", module))
    wanted = network.state_dict()
    state = _without_prefixes(read_state(path), wanted)
    for name in wanted.keys() - state.keys():
        # A count that old files lack; no BatchNorm with a momentum reads it.
        if name.endswith(".num_batches_tracked"):
            state[name] = wanted[name]
    faults = _mismatches(state, wanted)
    if faults:
        hint = _other_head(module, state)
        kind = type(network).__name__
        raise DataError(f"{path} does not fit {kind}{hint}:\n  " + "\n  ".join(faults))
    network.load_state_dict(state)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a file by name, on the CPU; nothing in the file is run.

    Args:
        path: A safetensors file or one of `torch.save`: a state dict, a level above one, or a
            Lightning checkpoint.
    """
    path = Path(path)
    kind = _kind_of(path)
    if kind == "safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged: {error}") from error
    return _tensors(path, _read_torch(path))


def _kind_of(path: Path) -> str:
    """`safetensors` or `torch`, by the first bytes; names lie."""
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    if path.is_dir():
        raise DataError(
            f"{path} is a folder without architecture.json, so no artifact: pass a file of weights"
        )
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise DataError(f"{path} is empty")
    if start[8:] == b"{":  # 8 bytes of length, then a JSON header
        return "safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    raise DataError(
        f"{path} is no checkpoint: expected safetensors or a file of torch.save, "
        f"got one that starts with {start!r}"
    )


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # a foreign pickle protocol is told below
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = found.group(1) if found else "more than tensors"
        raise DataError(
            f"{path} is refused: to load it would run code ({what}), or it is damaged. Nothing of "
            "it was run; save the weights alone, torch.save(model.state_dict(), PATH)"
        ) from error
    except Exception as error:  # damaged bytes raise anything, from KeyError on
        raise DataError(
            f"{path} is damaged or was not copied whole ({type(error).__name__})"
        ) from error


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict of what was in a file."""
    for level in LEVELS:
        if isinstance(content, dict) and isinstance(content.get(level), dict):
            content = content[level]
            break
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no state dict but a {type(content).__name__}")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise DataError(
            f"{path} holds no state dict: no tensors at {_listed(others)}; expected names with "
            f"tensors, or those under one of {', '.join(LEVELS)}"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _without_prefixes(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """`state` under the names of the network, as far as prefixes of wrappers are in the way.

    Example:
        >>> list(_without_prefixes({"module.fc.weight": torch.ones(1)}, {"fc.weight"}))
        ['fc.weight']
    """
    renamed = {name: _without_prefix(name, wanted) for name in state}
    if len(set(renamed.values())) < len(renamed):  # two names became one: told as they are
        return dict(state)
    return {renamed[name]: tensor for name, tensor in state.items()}


def _without_prefix(name: str, wanted: Collection[str]) -> str:
    shorter = name
    while shorter not in wanted:
        prefix = next((p for p in PREFIXES if shorter.startswith(p)), None)
        if prefix is None:
            return name if shorter == name else shorter
        shorter = shorter.removeprefix(prefix)
    return shorter


def _mismatches(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Every difference in names, shapes and kinds of numbers, a sentence a kind."""
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    differing = [
        f"{name} has {list(state[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    retyped = [
        f"{name} has {state[name].dtype}, expected {tensor.dtype}"
        for name, tensor in wanted.items()
        if name in state and state[name].is_floating_point() != tensor.is_floating_point()
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "shape": differing, "type": retyped}
    return [f"{kind} ({len(names)}): {_listed(names)}" for kind, names in kinds.items() if names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _other_head(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Both class counts, where the checkpoint's head has another width than the model's."""
    head = getattr(module, "head_name", "").removeprefix("backbone.")
    weight = state.get(f"{head}.weight")
    ours = getattr(module, "num_classes", None)
    if weight is None or ours is None or len(weight) == ours:
        return ""
    return (
        f" with {ours} classes, its head has {len(weight)}; "
        f"pass model.num_classes={len(weight)} or another checkpoint"
    )


def _adopt_artifact(module: nn.Module, folder: Path) -> None:
    """Take over what an artifact holds: its network may have other shapes than ours.

    Only what its class builds: a program has no layers to take over, and loading one that was
    downloaded is a risk for nothing.
    """
    from models.artifacts import rebuild_artifact

    loaded = rebuild_artifact(folder)
    ours, theirs = _described(module), _described(loaded)
    if ours != theirs:
        raise DataError(f"{folder} is an artifact of {theirs}, not of {ours}; choose its model=")
    for name in ADOPTED:
        setattr(module, name, getattr(loaded, name))


def _described(module: nn.Module) -> str:
    """Class and architecture of a model, such as `TimmModel resnet18` or `CifarResNet depth=20`."""
    own = [f"{name}={value}" for name, value in own_options(module).items()]
    words = [type(module).__name__, getattr(module, "timm_name", "").partition(".")[0], *own]
    return " ".join(filter(None, words))
