"""Following a forward pass backwards: copies that can be traced, and what makes the logits."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.base_model import ClassifierModule
from models.quantized import IntegerLinear

LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, IntegerLinear)
"""Types that count as a layer where the question is which one makes the logits."""


def prefix_of(model: nn.Module) -> str:
    """What makes a short name of a layer a full one: `backbone.` in a classifier of ours."""
    return "backbone." if isinstance(model, ClassifierModule) else ""


def traceable(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose every floating parameter asks for a gradient.

    Tracing follows autograd, and autograd skips what is frozen without a word.
    """
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return twin


def find_heads(model: nn.Module, example_inputs: Tensor) -> list[str]:
    """Names of the layers whose outputs reach the logits through no other layer.

    A network may have several: a distilled transformer sums two.

    Args:
        model: Any network; left as it is.
        example_inputs: One batch, shape [N, K, H, W].
    """
    twin = traceable(model)
    made_by: dict[object, str] = {}
    handles = [
        module.register_forward_hook(_noting(made_by, name))
        for name, module in twin.named_modules()
        if isinstance(module, LAYERS)
    ]
    with torch.enable_grad():
        logits = twin(example_inputs)
    for handle in handles:
        handle.remove()
    heads: set[str] = set()
    seen: set[object] = {None}
    waiting: list[object] = [logits.grad_fn]
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        if step in made_by:
            heads.add(made_by[step])
        else:
            waiting += [earlier for earlier, _ in getattr(step, "next_functions", ())]
    return [name for name, _ in twin.named_modules() if name in heads]


def _noting(made_by: dict[object, str], name: str) -> Callable[..., None]:
    """A forward hook that notes which step of the graph a layer made."""

    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            made_by[output.grad_fn] = name

    return hook
