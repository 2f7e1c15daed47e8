"""Layers that stand where others stood: made of them, and made again when an artifact is loaded."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from core.targets import resolve


class Replacement(nn.Module, ABC):
    """A layer made of another one and of numbers that are known without its weights.

    Loading an artifact makes the layer of the constructor's random weights first, then fills in the
    stored ones: names and shapes must follow from the arguments of `of` and the old layer's shape.
    """

    holds: ClassVar[str] = ""
    """Attribute under which the old layer goes on, where it does: its zeros stay zeros."""

    @classmethod
    @abstractmethod
    def of(cls, layer: nn.Module, **arguments: Any) -> "Replacement":
        """The layer that takes the place of `layer`, in its mode, on its device.

        Args:
            layer: Left as it is.
            **arguments: JSON.

        Raises:
            IncompatibleModel: `layer` cannot be replaced in this way.
        """

    @classmethod
    def after_step(cls, model: nn.Module) -> None:
        """Keep what training `model`, which has such layers, must keep after every step."""


def why_bound(model: nn.Module, layer: nn.Module) -> str:
    """Why a layer cannot become another one alone, as a sentence; empty where it can.

    Args:
        model: The whole network.
        layer: One of its parts.

    Example:
        >>> pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> pair[1].weight = pair[0].weight
        >>> why_bound(pair, pair[0])
        'another place of the network has it, or its weights, as well'
    """
    parts, own = list(model.modules()), set(layer.modules())
    places = sum(child is layer for part in parts for child in part._modules.values())
    weights = {id(parameter) for parameter in layer.parameters()}
    others = (p for part in parts if part not in own for p in part._parameters.values())
    if places > 1 or any(id(parameter) in weights for parameter in others):
        return "another place of the network has it, or its weights, as well"
    holders = [part for part in parts if isinstance(part, Replacement) and part.holds]
    if any(getattr(part, part.holds) is layer for part in holders):
        return "what was put in its place computes with it"
    return ""


def made_of(layer: nn.Module, spec: Mapping[str, Any]) -> Replacement:
    """The replacement that a specification describes.

    Args:
        layer: What it takes the place of.
        spec: `_target_`, a `Replacement` of this project, and the arguments of its `of`.

    Raises:
        ConfigError: `_target_` is no such class.
    """
    kind = resolve(spec["_target_"], expects=Replacement)
    arguments = {name: value for name, value in spec.items() if name != "_target_"}
    return kind.of(layer, **arguments).train(layer.training)
