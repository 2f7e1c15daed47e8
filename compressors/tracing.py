"""One forward pass looked at: what makes the logits, what it costs, whether tokens attend."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.cost import watched
from models.edits import sketch
from models.quantized import IntegerLinear

LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, IntegerLinear)
"""Types that count as a layer where the question is which one makes the logits."""


def prefix_of(model: nn.Module) -> str:
    """What makes a short name of a layer a full one: `backbone.` in a classifier of ours."""
    from models.base_model import ClassifierModule  # Lightning: seconds, not for a refusal

    return "backbone." if isinstance(model, ClassifierModule) else ""


def traceable(model: nn.Module) -> nn.Module:
    """A sketch in eval mode whose every floating parameter asks for a gradient.

    Tracing follows autograd, and autograd skips what is frozen without a word. A copy, since some
    networks keep what they compute in eval mode, with its graph.
    """
    twin = sketch(model).eval()
    for parameter in twin.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return twin


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one pass of one sample tells about a network.

    Args:
        heads: Names of the layers whose outputs reach the logits through no other layer; several
            where a network sums them, as a distilled transformer does.
        attends: Whether tokens are multiplied with tokens; dependency graphs lose their way there.
        macs: Multiply-accumulates.
        logits: Their shape.
    """

    heads: list[str]
    attends: bool
    macs: int
    logits: tuple[int, ...]


def look_at(model: nn.Module, example_inputs: Tensor) -> Look:
    """Run one sample through a network in eval mode; it stays as it is.

    Args:
        model: Any network.
        example_inputs: At least one sample, shape [N, K, H, W].
    """
    twin = traceable(model)
    made_by: dict[object, str] = {}
    _note_makers(twin, made_by)
    with torch.inference_mode(False), torch.enable_grad(), watched() as seen:
        logits = twin(example_inputs[:1])
    heads = _makers(logits, made_by)
    return Look(
        heads=[name for name, _ in model.named_modules() if name in heads],
        attends=seen.attends,
        macs=seen.macs,
        logits=tuple(logits.shape),
    )


def _note_makers(model: nn.Module, made_by: dict[object, str]) -> None:
    """From now on, `made_by` receives which step of autograd's graph each layer made."""
    for name, module in model.named_modules():
        if isinstance(module, LAYERS):
            module.register_forward_hook(_noting(made_by, name))


def _makers(logits: Tensor, made_by: Mapping[object, str]) -> set[str]:
    """Layers that are met first on the way back from the logits."""
    found: set[str] = set()
    seen: set[object] = {None}
    waiting: list[object] = [logits.grad_fn]
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        if step in made_by:
            found.add(made_by[step])
        else:
            waiting += [earlier for earlier, _ in getattr(step, "next_functions", ())]
    return found


def _noting(made_by: dict[object, str], name: str) -> Callable[..., None]:
    """A forward hook that notes which step of the graph a layer made."""

    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            made_by[output.grad_fn] = name

    return hook
