"""Linear layers whose weights are stored as few bits and computed with as floats."""

from typing import Any, ClassVar, Literal, cast, get_args

from torch import nn

from compressors.base import Compressor, Decision, Task
from compressors.options import whole
from compressors.quantization.bound import free_of_others
from compressors.quantization.share import share_of
from compressors.quantization.torchao_adapter import rounded_by_torchao
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import Edits, perform
from models.quantized import IntegerLinear

Algorithm = Literal["nearest", "hqq"]


class WeightOnly(Compressor):
    """Weights of linear layers become integers with a step for each group of a row.

    Needs no data, and the head is treated as well: its width stays. Convolutions stay in floats.

    Args:
        group_size: Consecutive inputs that share a step; None for a row.
        algorithm: `nearest` integers, or `hqq`: steps that torchao fits to all weights of a group.
        **selection: Those of Compressor.
    """

    treatable: ClassVar = ("Linear",)
    default_types: ClassVar = treatable
    amounts: ClassVar = {}
    spares_heads: ClassVar = False
    computed: ClassVar = "in_floats"
    bits: ClassVar[int]

    def __init__(
        self,
        *,
        group_size: int | None = None,
        algorithm: Algorithm = "nearest",
        **selection: Any,
    ) -> None:
        super().__init__(**selection)
        faults = whole(group_size, "group_size", or_null=True)
        if algorithm not in get_args(Algorithm):
            faults.append(unknown("compressor.algorithm", algorithm, get_args(Algorithm)))
        if faults:
            raise ConfigError(faults)
        self.group_size, self.algorithm = group_size, algorithm

    def options(self) -> dict[str, Any]:
        """How many bits, and how they are chosen."""
        return {"bits": self.bits, "group_size": self.group_size, "algorithm": self.algorithm}

    def decide(self, task: Task) -> Decision:
        """Put layers of integers in place of those that are nothing but linear."""
        layers = {name: task.layer(name) for name in task.selection.layers}
        odd = [name for name, layer in layers.items() if not _is_plain(layer)]
        done, notes = free_of_others(task, (name for name in layers if name not in odd))
        if odd:
            notes.append(f"{', '.join(odd)}: left in floats, more than a linear layer")
        if not done:
            raise IncompatibleModel(f"{self.name}: {'; '.join(notes)}")
        spec = {
            "_target_": "models.quantized.IntegerLinear",
            "bits": self.bits,
            "group_size": self.group_size,
        }
        edits = Edits(replaced={task.prefix + name: spec for name in done})
        achieved = {"weights_only_computed_in_floats": True, "quantized_layers": len(done)}
        notes.append(share_of(task.model, done, task.prefix))
        notes.append("weights only: stored as integers and computed in floats, so no faster")
        if self.algorithm == "nearest":
            return Decision(edits=edits, notes=notes, achieved=achieved)
        weights = {name: layers[name].get_parameter("weight") for name in done}
        perform(task.model, edits)
        for name, weight in weights.items():
            rounded = rounded_by_torchao(
                weight, bits=self.bits, group_size=self.group_size, algorithm="hqq_scale_only"
            )
            cast(IntegerLinear, task.layer(name)).put(rounded)
        return Decision(model=task.model, notes=notes, achieved=achieved)


class Int8WeightOnly(WeightOnly):
    """Weights of 8 bits; with a step for each row, unless there is a `group_size`."""

    bits: ClassVar = 8


class Int4WeightOnly(WeightOnly):
    """Weights of 4 bits, two in a byte; with a step for every 32 inputs."""

    bits: ClassVar = 4

    def __init__(self, *, group_size: int | None = 32, **options: Any) -> None:
        super().__init__(group_size=group_size, **options)


def _is_plain(layer: nn.Module) -> bool:
    return type(layer).forward is nn.Linear.forward
