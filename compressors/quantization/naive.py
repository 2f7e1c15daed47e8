"""Weights rounded to few levels, the simplest quantizer there is."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressors.base import Compressor, Decision, Task
from compressors.quantization.bits import bits_faults
from compressors.quantization.bound import free_of_others
from core.errors import IncompatibleModel

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
FEWEST, MOST = 2, 16


def rounded(weight: Tensor, *, bits: int, dim: int = 0) -> Tensor:
    """Round to integers of `bits` bits times a scale for each output channel.

    Args:
        weight: Floating point, any shape.
        bits: At least 2; levels are the integers from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        dim: Of the output channels.

    Returns:
        The same shape; half a step at most from `weight`. The largest of a channel stays.

    Example:
        >>> rounded(torch.tensor([[3.0, 1.4, -0.4]]), bits=3).tolist()
        [[3.0, 1.0, -0.0]]
    """
    levels = 2 ** (bits - 1) - 1
    others = [d for d in range(weight.ndim) if d != dim]
    scale = weight.abs().amax(dim=others, keepdim=True) / levels
    steps = torch.where(scale > 0, weight / scale, 0).round().clamp(-levels, levels)
    return steps * scale


def _type_faults(types: Any) -> Iterator[str]:
    given = [types] if isinstance(types, str) else types
    if given is None or list(given) != ["weight"]:
        yield f"quant_types is [weight]: this quantizer rounds nothing else, got {types!r}"


class Naive(Compressor):
    """Rounds weights symmetrically, with the scale max |w| / (2^(bits-1) - 1) of each channel.

    A simulation: rounded weights are stored and computed as floats. The head is rounded as well.

    Args:
        quant_types: `[weight]`.
        quant_bits: Bits of a weight, an int or `{weight: int}`; entries of `config_list` may
            have their own.
        **selection: Those of Compressor.
    """

    treatable: ClassVar = (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        *(t.__name__ for t in TRANSPOSED),
        "Linear",
    )
    default_types: ClassVar = treatable
    amounts: ClassVar = {
        "quant_types": _type_faults,
        "quant_bits": bits_faults(("weight",), fewest=FEWEST, most=MOST),
    }
    spares_heads: ClassVar = False
    computed: ClassVar = "simulated"

    def __init__(
        self,
        *,
        quant_types: Sequence[str] = ("weight",),
        quant_bits: int | dict[str, int] = 8,
        **selection: Any,
    ) -> None:
        super().__init__(quant_types=quant_types, quant_bits=quant_bits, **selection)

    def decide(self, task: Task) -> Decision:
        """Round the weights of each layer in the private copy."""
        used: dict[str, int] = {}
        layers, notes = free_of_others(task, task.selection.layers)
        if not layers:
            raise IncompatibleModel(f"{self.name}: {'; '.join(notes)}; nothing else is left")
        for name in layers:
            layer, bits = task.layer(name), task.selection.entries[name]["quant_bits"]
            used[name] = bits["weight"] if isinstance(bits, Mapping) else bits
            weight = layer.get_parameter("weight")
            with torch.no_grad():
                dim = 1 if isinstance(layer, TRANSPOSED) else 0
                weight.copy_(rounded(weight, bits=used[name], dim=dim))
        shown = ", ".join(map(str, sorted(set(used.values()))))
        notes.append(
            f"simulated: the weights of {len(used)} layers are rounded to {shown} bits, but stored "
            "and computed as floats, so neither file nor latency shrinks"
        )
        achieved = {"simulated": True, "quantized_layers": len(used)}
        return Decision(model=task.model, notes=notes, achieved=achieved)
