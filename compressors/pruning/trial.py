"""Trying a removal out on a copy, before it is decided."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compressors.selfcheck import same_function
from models.edits import Edits, perform, sketch

NOT_TOGETHER = "the removals do not work together"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A removal that was carried out on a copy.

    Args:
        fault: What stands against it, after `because`; empty where nothing does.
        note: What a reader would not expect.
        edited: The copy; whole tensors lie where those of the model lie. None after a fault.
    """

    fault: str = ""
    note: str = ""
    edited: nn.Module | None = None


def why_not(model: nn.Module, edits: Edits, inputs: Tensor) -> str:
    """What stands against a removal, after `because`; empty where nothing does."""
    return try_out(model, edits, inputs).fault


def try_out(model: nn.Module, edits: Edits, inputs: Tensor) -> Trial:
    """Carry a removal out on a copy, and compare that with the masked model.

    Args:
        model: In eval mode; left as it is.
        edits: Channels to remove.
        inputs: One batch, shape [N, K, H, W].
    """
    edited, last = sketch(model), [""]
    try:
        perform(edited, edits)
        run = sketch(edited)  # a network may keep what it computes
        _follow(run, last)
        compared = same_function(model, run, edits, inputs)
    except Exception as error:  # noqa: BLE001 - whatever the narrower network trips over
        where = f" at {last[0]}" if last[0] else ""
        text = (str(error).splitlines() or [""])[0]
        return Trial(fault=f"the narrower network fails{where} ({type(error).__name__}: {text})")
    return Trial(
        fault=compared.fault, note=compared.note, edited=None if compared.fault else edited
    )


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


def _follow(model: nn.Module, last: list[str]) -> None:
    """From now on, `last` tells which layer was entered last."""

    def noting(name: str) -> Callable[..., None]:
        return lambda *_: last.__setitem__(0, name)

    for name, module in model.named_modules():
        if not any(module.children()):
            module.register_forward_pre_hook(noting(name))
