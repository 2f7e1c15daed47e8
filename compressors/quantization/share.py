"""How much of a model became integers, told."""

from collections.abc import Iterable

from torch import nn


def share_of(model: nn.Module, layers: Iterable[str], prefix: str) -> str:
    """How much of a model these layers are, as a sentence about their integers."""
    names = list(layers)
    total = sum(p.numel() for p in model.parameters())
    own = sum(model.get_submodule(prefix + n).get_parameter("weight").numel() for n in names)
    shown = ", ".join(names) if len(names) < 4 else f"{len(names)} linear layers"
    return (
        f"{shown}: {100 * own / total:.2g} % of all parameters, are integers; convolutions and "
        "all else stay in floats"
    )
