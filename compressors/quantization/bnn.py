"""Networks of signs."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressors.base import Decision, Task
from compressors.quantization.trained import TrainedInFewBits, without_first
from core.errors import IncompatibleModel
from models.edits import Edits, perform
from models.simulated import RECTIFIERS

RELUS = tuple(kind.__name__ for kind in RECTIFIERS)


class BNN(TrainedInFewBits):
    """Weights and inputs become 1 or -1; every ReLU becomes a hardtanh.

    Behind a ReLU everything would be 1: the sign is taken of what would have come into it, since
    sign(hardtanh(x)) = sign(x). The gradient of a sign is that of hardtanh, and weights are kept in
    [-1, 1] while they are trained. A simulation: signs are computed as floats. The first layer and
    the head stay in floats unless they are named.

    Args:
        epochs: As in TrainedInFewBits.
        learning_rate: As in TrainedInFewBits.
        **selection: Those of Compressor; ReLUs are selected like layers.

    Reference:
        Courbariaux et al., Binarized neural networks: Training deep neural networks with weights
        and activations constrained to +1 or -1 (2016), algorithm 1.
    """

    treatable: ClassVar = ("Conv1d", "Conv2d", "Conv3d", "Linear", *RELUS)
    default_types: ClassVar = treatable
    amounts: ClassVar = {}
    computed: ClassVar = "simulated"

    def __init__(
        self, *, epochs: int = 10, learning_rate: float | None = None, **selection: Any
    ) -> None:
        super().__init__(epochs=epochs, learning_rate=learning_rate, **selection)

    def decide(self, task: Task) -> Decision:
        """Train the network with layers of signs."""
        chosen, notes = without_first(task)
        relus = [name for name in chosen if isinstance(task.layer(name), RECTIFIERS)]
        layers = [name for name in chosen if name not in relus]
        if not layers:
            raise IncompatibleModel(f"{self.name}: {'; '.join(notes)}; nothing else has weights")
        hardtanh = {"_target_": "models.simulated.HardTanh"}
        perform(task.model, Edits(replaced={task.prefix + name: hardtanh for name in relus}))
        self._require_signs(task, layers)
        binary = {"_target_": "models.simulated.Binary"}
        self.train(task, dict.fromkeys(layers, binary))
        notes.append(
            f"simulated: {len(layers)} layers compute with signs as floats, {len(relus)} ReLUs "
            "became hardtanh; the weights are stored as training goes on with them, so neither "
            "file nor latency shrinks"
        )
        achieved = {"simulated": True, "quantized_layers": len(layers)}
        return Decision(model=task.model, notes=notes, achieved=achieved)

    def _require_signs(self, task: Task, layers: list[str]) -> None:
        """Refuse layers whose inputs would all be 1."""
        lowest = _lowest_inputs(task.model, [task.prefix + n for n in layers], task.example_inputs)
        flat = [n.removeprefix(task.prefix) for n, low in lowest.items() if low >= 0]
        if flat:
            raise IncompatibleModel(
                f"{', '.join(flat)}: nothing negative comes in, so every sign would be 1; what "
                "lies before is a ReLU that is no module, serves several places, or was not "
                "selected: select it, give each place its own, or exclude these"
            )


def _lowest_inputs(model: nn.Module, names: list[str], inputs: Tensor) -> Mapping[str, float]:
    """Smallest number that comes into each layer."""
    lowest: dict[str, float] = {}

    def noting(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            lowest[name] = min(lowest.get(name, torch.inf), float(args[0].min()))

        return hook

    handles = [model.get_submodule(n).register_forward_pre_hook(noting(n)) for n in names]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return lowest
