"""What recipes share that train a network in few bits."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressors.base import Compressor, Task
from compressors.forecast import announce
from compressors.options import positive, whole
from compressors.quantization.bound import free_of_others
from compressors.tracing import LAYERS
from core.errors import ConfigError
from models.edits import Edits, enforce, perform


class TrainedInFewBits(Compressor):
    """Puts layers of few bits in the place of others and trains the whole network with them.

    Args:
        epochs: Of training on the tuning data, at least 1.
        learning_rate: Of this training; None for the model's own.
        **selection: Those of Compressor.
    """

    needs: ClassVar = frozenset({"train"})

    def __init__(self, *, epochs: int, learning_rate: float | None, **selection: Any) -> None:
        super().__init__(**selection)
        faults = whole(epochs, "epochs") + positive(learning_rate, "learning_rate", or_null=True)
        if faults:
            raise ConfigError(faults)
        self.epochs, self.learning_rate = epochs, learning_rate

    def options(self) -> dict[str, Any]:
        """How it is trained."""
        return {"epochs": self.epochs, "learning_rate": self.learning_rate}

    def train(self, task: Task, replaced: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace layers of the task's model and train it; what was zeroed before stays zero.

        Args:
            task: Its model is changed.
            replaced: Short names, as in `Edits.replaced`.

        Raises:
            ConfigError: A layer that has to be trained is frozen.
        """
        own = {name: task.layer(name) for name in replaced}
        frozen = [
            n for n, part in own.items() if not all(p.requires_grad for p in part.parameters())
        ]
        if frozen:
            names = ", ".join(frozen)
            raise ConfigError(
                [f"{names}: frozen, and {self.name} trains in few bits; unfreeze them"]
            )
        perform(
            task.model,
            Edits(replaced={task.prefix + name: spec for name, spec in replaced.items()}),
        )
        announce(self.name, task, epochs=self.epochs)
        options = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        task.given.train(task.model, epochs=self.epochs, after_step=enforce, **options)


def first_layer(model: nn.Module, inputs: Tensor) -> str:
    """Name of the layer with weights that sees the images first.

    Args:
        model: Left as it is.
        inputs: One batch, shape [N, K, H, W].
    """
    order: list[str] = []
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, part in model.named_modules()
        if isinstance(part, LAYERS)
    ]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return order[0] if order else ""


def without_first(task: Task) -> tuple[list[str], list[str]]:
    """Layers to treat: not the first unless it is named, none that is shared; and sentences."""
    layers, notes = free_of_others(task, task.selection.layers)
    first = first_layer(task.model, task.example_inputs).removeprefix(task.prefix)
    entry = task.selection.entries.get(first)
    if entry is None or first in (entry.get("op_names") or ()):
        return layers, notes
    kept = [name for name in layers if name != first]
    return kept, [*notes, f"the first layer {first} stays in floats; name it to treat it"]
