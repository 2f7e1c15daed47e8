"""What the layers inside a model put out, for measurements that look inside it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from core.errors import NotApplicable, unknown
from recording.loop import Batch

Keep = Callable[[str, Tensor], Tensor]
"""Name of a layer and its output -> what is kept of it."""


def layer_names(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    """Names of the layers of some kinds, in the order of `model.named_modules()`.

    A layer with two names has the first; subclasses count, functions that are no modules do not.

    Raises:
        NotApplicable: The model is run by a runtime that shows no layers.

    Example:
        >>> layer_names(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), (nn.Linear,))
        ['0', '2']
    """
    runtime = getattr(model, "runtime", "torch")
    if runtime != "torch":
        raise NotApplicable(f"a model run by {runtime} shows no layers")
    return [name for name, layer in model.named_modules() if isinstance(layer, kinds)]


def copied(name: str, output: Tensor) -> Tensor:
    """The output as it is now: what follows may write into it in place."""
    return output.detach().clone()


@contextmanager
def watched(
    model: nn.Module, names: Sequence[str], *, keep: Keep = copied
) -> Iterator[dict[str, Tensor]]:
    """Outputs of some layers in the last forward of `model`; the hooks go, also after an error.

    All that is kept of one forward is in memory together: hand over few images at a time, or
    `keep` little of each output.

    Args:
        model: Anything whose `model(images)` runs the layers.
        names: As `model.named_modules()` has them; "" is the model itself.
        keep: What is kept of an output; a copy of all of it unless told.

    Yields:
        Name -> what was kept, filled by each forward and emptied before the next. A layer called
        several times has its last output; one that was not called, or whose output is no tensor,
        is not there.

    Raises:
        LookupError: The model has no layer of a name.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.ReLU())
        >>> with watched(model, ["1"]) as outputs:
        ...     _ = model(torch.tensor([[[-1.0], [2.0]]]))
        ...     outputs["1"].tolist()
        [[0.0, 2.0]]
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    if absent := [name for name in names if name not in layers]:
        raise LookupError(unknown("layer", absent[0], layers))
    outputs: dict[str, Tensor] = {}
    handles = [model.register_forward_pre_hook(lambda *_: outputs.clear())]
    try:
        handles += [_hooked(layers[name], name, keep, outputs) for name in names]
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def regrouped(batches: Iterable[Batch], size: int) -> Iterator[Tensor]:
    """The images of batches of any size, `size` at a time; the last ones may be fewer."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.extend(batch.images)
        while len(waiting) >= size:
            yield torch.stack(waiting[:size])
            del waiting[:size]
    if waiting:
        yield torch.stack(waiting)


def _hooked(layer: nn.Module, name: str, keep: Keep, outputs: dict[str, Tensor]) -> RemovableHandle:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs[name] = keep(name, output)

    return layer.register_forward_hook(note)
