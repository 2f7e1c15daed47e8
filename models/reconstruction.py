"""What it takes to construct a model again: its class, by name, and arguments, as JSON."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from core.digest import file_digest
from models.base_model import ClassifierModule

BLANKS = {"checkpoint": "", "checkpoint_url": "", "pretrained": False}
"""Constructor arguments that fetch weights: an artifact brings its own."""

DRAWS = frozenset(
    {
        *(torch.Tensor.normal_, torch.Tensor.uniform_),
        *(nn.init.normal_, nn.init.uniform_, nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
    }
)
"""Functions that fill a tensor with random numbers."""


class Undrawn(TorchFunctionMode):
    """While it is active, parameters are zero instead of random: stored ones are filled in later.

    Example:
        >>> with Undrawn():
        ...     layer = nn.Linear(2, 1)
        >>> layer.weight.tolist()
        [[0.0, 0.0]]
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out a function, but draw nothing."""
        target = args[0] if args else (kwargs or {}).get("tensor")
        if func in DRAWS and isinstance(target, nn.Parameter):
            target.data.zero_()
            return target
        return func(*args, **(kwargs or {}))


def constructor_of(model: nn.Module) -> tuple[dict[str, Any] | None, str]:
    """Arguments that build the model again as JSON, or the reason why there are none."""
    node = getattr(model, "constructor", None)
    if not isinstance(model, ClassifierModule) or not isinstance(node, Mapping):
        return None, f"a {type(model).__name__} does not say how it was constructed"
    kind = type(model)
    try:
        arguments = arguments_of(kind, node)
        inspect.signature(kind.__init__).bind(model, **arguments)
        return json.loads(json.dumps({"_target_": node["_target_"], **arguments})), ""
    except (TypeError, ValueError) as error:
        return None, f"a {kind.__name__} cannot be constructed from JSON ({error})"


def arguments_of(kind: type[nn.Module], node: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments without those that would fetch weights."""
    accepted = inspect.signature(kind.__init__).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    blanks = {name: value for name, value in BLANKS.items() if takes_any or name in accepted}
    given = {name: _plain(value) for name, value in node.items() if name != "_target_"}
    return {**given, **blanks}


def _plain(value: Any) -> Any:
    """Containers of a configuration as plain ones; paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def class_digest(kind: type[nn.Module]) -> str | None:
    """Digest of the file a class is written in; None where there is none."""
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:
        return None
    return file_digest(Path(source)) if source and Path(source).is_file() else None
