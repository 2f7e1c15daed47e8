"""A model with its masks and parametrizations turned into plain weights."""

import copy
from collections.abc import Iterator
from typing import cast

from torch import nn
from torch.nn.utils import parametrize, prune


def baked(model: nn.Module) -> nn.Module:
    """The model as its forward pass sees it: what a mask or a parametrization gives is the weight.

    Args:
        model: Left as it is.

    Returns:
        `model` itself where there is nothing to bake, else a copy.

    Example:
        >>> layer = prune.l1_unstructured(nn.Linear(2, 2), "weight", amount=0.5)
        >>> sorted(name for name, _ in layer.named_parameters())
        ['bias', 'weight_orig']
        >>> sorted(name for name, _ in baked(layer).named_parameters())
        ['bias', 'weight']
    """
    if not any(masked(part) or parametrize.is_parametrized(part) for part in model.modules()):
        return model
    _detach_results(model)
    twin = copy.deepcopy(model)
    for part in twin.modules():
        for name in masked(part):
            prune.remove(part, name)
        if parametrize.is_parametrized(part):
            _bake_parametrizations(part)
    return twin


def masked(module: nn.Module) -> list[str]:
    """Names of the parameters of one module under a mask of `torch.nn.utils.prune`."""
    return [hook._tensor_name for hook in _masks(module)]


def _masks(module: nn.Module) -> Iterator[prune.BasePruningMethod]:
    hooks = module._forward_pre_hooks.values()
    return (hook for hook in hooks if isinstance(hook, prune.BasePruningMethod))


def _bake_parametrizations(part: nn.Module) -> None:
    """Not with torch's own function: it changes a class that copy and original share."""
    rules = cast(nn.ModuleDict, part.parametrizations)
    rules.eval()  # some update themselves in training mode
    weights = {name: getattr(part, name).detach().clone() for name in rules}
    part.__class__ = parametrize.type_before_parametrizations(part)
    del part.parametrizations
    for name, weight in weights.items():
        part.register_parameter(name, nn.Parameter(weight))


def _detach_results(model: nn.Module) -> None:
    """What a mask gave at the last forward pass hangs on its graph, and torch copies no graphs."""
    for part in model.modules():
        for hook in _masks(part):
            setattr(part, hook._tensor_name, hook.apply_mask(part).detach())
