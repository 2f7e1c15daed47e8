"""Trying a removal out on a copy, before it is decided."""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping

from torch import Tensor, nn

from compressors.selfcheck import Comparison, same_function
from models.edits import Edits, perform

NOT_TOGETHER = "the removals do not work together"


def why_not(model: nn.Module, edits: Edits, inputs: Tensor) -> str:
    """What stands against a removal, after `because`; empty where nothing does."""
    return try_out(model, edits, inputs).fault


def try_out(model: nn.Module, edits: Edits, inputs: Tensor) -> Comparison:
    """Carry a removal out on a copy and compare; the fault fits after `because`.

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
        return same_function(model, edited, edits, inputs)
    except Exception as error:  # noqa: BLE001 - whatever the narrower network trips over
        where = f" at {last[0]}" if last[0] else ""
        text = (str(error).splitlines() or [""])[0]
        fault = f"the narrower network fails{where} ({type(error).__name__}: {text})"
        return Comparison(fault=fault)


def failing_of(model: nn.Module, removals: Mapping[int, Edits], inputs: Tensor) -> dict[int, str]:
    """Which removals do not work on a network, each with the reason."""
    failing = _failing_among(model, removals, inputs)
    rest = {key: removal for key, removal in removals.items() if key not in failing}
    if failing and obstacle_to(model, rest.values(), inputs):
        failing |= dict.fromkeys(rest, NOT_TOGETHER)
    return failing


def obstacle_to(model: nn.Module, removals: Collection[Edits], inputs: Tensor) -> str:
    """What stands against removals together; empty where nothing does."""
    return why_not(model, union(removals), inputs) if removals else ""


def union(parts: Iterable[Edits | None]) -> Edits:
    """All edits of one numbering as one."""
    return Edits().merge(*(part for part in parts if part is not None))


def _failing_among(
    model: nn.Module, removals: Mapping[int, Edits], inputs: Tensor
) -> dict[int, str]:
    """Which removals fail, looked for in halves of what fails together."""
    reason = obstacle_to(model, removals.values(), inputs)
    if not reason or len(removals) == 1:
        return dict.fromkeys(removals, reason) if reason else {}
    keys = list(removals)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    parts = [_failing_among(model, {key: removals[key] for key in h}, inputs) for h in halves]
    return parts[0] | parts[1] or dict.fromkeys(removals, NOT_TOGETHER)


def _noting(last: list[str], name: str) -> Callable[..., None]:
    """A forward hook that notes which module was entered last."""

    def hook(_module: nn.Module, _inputs: object) -> None:
        last[0] = name

    return hook
