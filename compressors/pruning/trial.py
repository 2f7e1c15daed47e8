"""Trying a removal out on a copy, before it is decided."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from compressors.selfcheck import same_function
from models.edits import Edits, perform


def why_not(model: nn.Module, edits: Edits, inputs: Tensor) -> str:
    """What stands against a removal, after `because`; empty where nothing does.

    Args:
        model: In eval mode; left as it is.
        edits: Channels to remove.
        inputs: One batch, shape [N, K, H, W].
    """
    edited = copy.deepcopy(model)
    last = [""]
    try:
        perform(edited, edits)
        for name, module in edited.named_modules():
            if not any(module.children()):
                module.register_forward_pre_hook(_noting(last, name))
        with torch.no_grad():
            width = edited(inputs).shape[-1]
        differing = same_function(model, edited, edits, inputs).fault
    except Exception as error:  # noqa: BLE001 - whatever the narrower network trips over
        where = f" at {last[0]}" if last[0] else ""
        text = (str(error).splitlines() or [""])[0]
        return f"the narrower network fails{where} ({type(error).__name__}: {text})"
    with torch.no_grad():
        wanted = model(inputs).shape[-1]
    return differing if width == wanted else f"the logits would be {width} instead of {wanted}"


def _noting(last: list[str], name: str) -> Callable[..., None]:
    """A forward hook that notes which module was entered last."""

    def hook(_module: nn.Module, _inputs: object) -> None:
        last[0] = name

    return hook
