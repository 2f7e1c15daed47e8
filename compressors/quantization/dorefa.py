"""Weights and activations of a few bits, trained as such."""

from collections.abc import Mapping
from typing import Any, ClassVar

from compressors.base import Decision, Task
from compressors.quantization.bits import bits_faults
from compressors.quantization.trained import TrainedInFewBits, without_first
from core.errors import IncompatibleModel

TYPES = ("weight", "input")
FEWEST, MOST = 1, 8


class DoReFa(TrainedInFewBits):
    """Weights bent by tanh into [-1, 1], inputs clipped to [0, 1], both of 1 to 8 bits.

    A simulation: few bits are computed as floats. Gradients have all of theirs. The first layer and
    the head stay in floats unless they are named.

    Args:
        quant_bits: Of weights and inputs, an int or `{weight: int, input: int}`; entries of
            `config_list` may have their own.
        epochs: As in TrainedInFewBits.
        learning_rate: As in TrainedInFewBits.
        **selection: Those of Compressor.

    Reference:
        Zhou et al., DoReFa-Net: Training low bitwidth convolutional neural networks with low
        bitwidth gradients (2016).
    """

    treatable: ClassVar = ("Conv1d", "Conv2d", "Conv3d", "Linear")
    default_types: ClassVar = treatable
    amounts: ClassVar = {"quant_bits": bits_faults(TYPES, fewest=FEWEST, most=MOST)}
    computed: ClassVar = "simulated"

    def __init__(
        self,
        *,
        quant_bits: int | dict[str, int] = 8,
        epochs: int = 10,
        learning_rate: float | None = None,
        **selection: Any,
    ) -> None:
        super().__init__(
            quant_bits=quant_bits, epochs=epochs, learning_rate=learning_rate, **selection
        )

    def decide(self, task: Task) -> Decision:
        """Train the network with layers of few bits."""
        layers, notes = without_first(task)
        if not layers:
            raise IncompatibleModel(f"{self.name}: {'; '.join(notes)}; nothing else is left")
        self.train(task, {name: _spec(task.selection.entries[name]) for name in layers})
        notes.append(
            f"simulated: {len(layers)} layers compute with few bits as floats; the weights are "
            "stored as training goes on with them, so neither file nor latency shrinks"
        )
        achieved = {"simulated": True, "quantized_layers": len(layers)}
        return Decision(model=task.model, notes=notes, achieved=achieved)


def _spec(entry: Mapping[str, Any]) -> dict[str, Any]:
    bits = entry["quant_bits"]
    own = dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(TYPES, bits)
    return {
        "_target_": "models.simulated.DoReFa",
        **{f"{kind}_bits": own[kind] for kind in TYPES},
    }
