"""Training with the integers in view that will run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

from compressors.base import Decision, Task
from compressors.deployment import classifier_of, deployed
from compressors.quantization.bits import bits_faults
from compressors.quantization.bound import free_of_others
from compressors.quantization.onnx_int8 import OnnxStatic
from compressors.quantization.trained import TrainedInFewBits
from core.errors import ConfigError, IncompatibleModel, unknown
from models.base_model import ClassifierModule
from models.simulated import FakeQuantized, in_floats

TYPES = ("weight", "input")
FEWEST, MOST = 2, 8
RUNTIME = "onnxruntime"


def _type_faults(types: Any) -> Iterator[str]:
    given = [types] if isinstance(types, str) else list(types or [])
    if not given or not set(given) <= set(TYPES):
        yield f"quant_types are some of {list(TYPES)}, got {types!r}"


class QAT(TrainedInFewBits):
    """Quantization-aware training: the forward pass rounds, the gradient goes straight through.

    Weights have a step for each output channel, inputs of layers (outputs of what lies before) a
    range that is the moving average of what training has seen. No BatchNorm is folded: behind a
    layer it only scales the steps of each channel, so the integers are the same. Its statistics
    stay those of the trained network.

    Args:
        quant_types: `weight`, `input`, or both.
        quant_bits: Of each, an int or `{weight: int, input: int}`; entries of `config_list` may
            have their own.
        quant_start_step: Steps of training that only look at ranges.
        ema_decay: Share of a range that the next batch leaves of it, in [0, 1).
        reduce_range: Weights of 8 bits take 7, whose sums no processor lets overflow.
        deploy: `onnxruntime` makes an integer file with the trained weights and ranges; None leaves
            the simulation.
        samples: Of the tuning data, for ranges of the file that training does not know: of sums.
        epochs: As in TrainedInFewBits.
        learning_rate: As in TrainedInFewBits.
        **selection: Those of Compressor.

    Reference:
        Jacob et al., Quantization and training of neural networks for efficient
        integer-arithmetic-only inference, CVPR 2018, section 3.
    """

    treatable: ClassVar = ("Conv1d", "Conv2d", "Conv3d", "Linear")
    default_types: ClassVar = treatable
    amounts: ClassVar = {
        "quant_types": _type_faults,
        "quant_bits": bits_faults(TYPES, fewest=FEWEST, most=MOST),
    }
    spares_heads: ClassVar = False
    needs: ClassVar = frozenset({"train", "batches"})

    def __init__(
        self,
        *,
        quant_types: Sequence[str] = TYPES,
        quant_bits: int | dict[str, int] = 8,
        quant_start_step: int = 0,
        ema_decay: float = 0.99,
        reduce_range: bool = True,
        deploy: str | None = RUNTIME,
        samples: int = 512,
        epochs: int = 2,
        learning_rate: float | None = 1e-5,
        **selection: Any,
    ) -> None:
        self.chosen: dict[str, Any] = {
            "quant_start_step": quant_start_step,
            "ema_decay": ema_decay,
            "reduce_range": reduce_range,
            "deploy": deploy,
            "samples": samples,
        }
        super().__init__(
            quant_types=quant_types,
            quant_bits=quant_bits,
            epochs=epochs,
            learning_rate=learning_rate,
            **selection,
        )
        faults = list(_faults(**self.chosen))
        if deploy is not None:
            faults += list(self._deployment_faults())
        if faults:
            raise ConfigError(faults)
        self.runtime = deploy or "torch"

    @classmethod
    def computes(cls, step: Mapping[str, Any]) -> str:
        """Without `deploy` the integers are computed as floats."""
        return "simulated" if step.get("deploy", RUNTIME) is None else ""

    def options(self) -> dict[str, Any]:
        """All that decides the result beside the layers."""
        return {**super().options(), **self.chosen}

    def decide(self, task: Task) -> Decision:
        """Train in few bits; make the file of it, if wanted."""
        if self.chosen["deploy"] is not None:
            classifier_of(task)
        layers, notes = free_of_others(task, task.selection.layers)
        if not layers:
            raise IncompatibleModel(f"{self.name}: {'; '.join(notes)}; nothing else is left")
        replaced = {name: self._spec(task.selection.entries[name]) for name in layers}
        self.train(task, replaced)
        unseen = [name for name in layers if not int(cast(Any, task.layer(name)).steps)]
        if unseen:
            raise IncompatibleModel(f"{', '.join(unseen)}: no batch of training came through")
        if self.chosen["deploy"] is not None:
            return self._deployed(task, notes)
        notes.append(
            f"simulated: {len(layers)} layers were trained in few bits and compute with them as "
            "floats; the weights are stored as training goes on with them, so neither file nor "
            "latency shrinks"
        )
        achieved = {"simulated": True, "quantized_layers": len(layers)}
        return Decision(model=task.model, notes=notes, achieved=achieved)

    def _spec(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The layer an entry asks for."""
        types, bits = _types(entry), _bits(entry)
        top = 2 ** (bits["weight"] - 1) - 1
        if self.chosen["reduce_range"] and bits["weight"] == MOST:
            top = 64  # as ONNX Runtime takes seven bits
        return {
            "_target_": "models.simulated.FakeQuantized",
            "weight_levels": top if "weight" in types else None,
            "input_levels": 2 ** bits["input"] - 1 if "input" in types else None,
            "start_step": self.chosen["quant_start_step"],
            "decay": self.chosen["ema_decay"],
        }

    def _deployed(self, task: Task, notes: list[str]) -> Decision:
        """The trained weights and ranges as an integer file."""
        ranges = {
            f"{task.prefix}{name}": (float(part.low), float(part.high))
            for name in task.selection.layers
            if isinstance(part := task.layer(name), FakeQuantized)
        }
        floats = cast(ClassifierModule, in_floats(task.model))
        images = (batch.cpu().numpy() for batch, _ in task.given.batches(self.chosen["samples"]))
        maker = OnnxStatic(
            floats,
            list(ranges),
            images,
            calibration="minmax",
            reduce_range=self.chosen["reduce_range"],
            input_ranges=ranges,
        )
        lost = [name.removeprefix(task.prefix) for name in ranges if name not in maker.nodes]
        if len(lost) == len(ranges):
            raise IncompatibleModel(f"no node of the exported graph belongs to {', '.join(lost)}")
        made = deployed(
            RUNTIME, floats, task.example_inputs, lambda path: maker.write(path, list(maker.nodes))
        )
        if lost:
            notes.append(f"{', '.join(lost)}: not in the exported graph")
        achieved = {"quantized_layers": len(maker.nodes)}
        return Decision(model=made, notes=notes, achieved=achieved)

    def _deployment_faults(self) -> Iterator[str]:
        for key, entry in self.entries.items():
            if entry.get("exclude"):
                continue
            if set(_types(entry)) != set(TYPES) or set(_bits(entry).values()) != {MOST}:
                yield (
                    f"{key}: compressor.deploy={RUNTIME} runs weights and inputs of 8 bits; pass "
                    "compressor.deploy=null to simulate others"
                )


def _types(entry: Mapping[str, Any]) -> list[str]:
    types = entry["quant_types"]
    return [types] if isinstance(types, str) else list(types)


def _bits(entry: Mapping[str, Any]) -> dict[str, int]:
    bits = entry["quant_bits"]
    return dict(bits) if isinstance(bits, Mapping) else dict.fromkeys(TYPES, bits)


def _faults(
    *, quant_start_step: Any, ema_decay: Any, reduce_range: Any, deploy: Any, samples: Any
) -> Iterator[str]:
    if type(quant_start_step) is not int or quant_start_step < 0:
        yield f"compressor.quant_start_step is a number of steps, got {quant_start_step!r}"
    if type(ema_decay) not in (int, float) or not 0 <= ema_decay < 1:
        yield f"compressor.ema_decay is a number in [0, 1), got {ema_decay!r}"
    if not isinstance(reduce_range, bool):
        yield f"compressor.reduce_range is true or false, got {reduce_range!r}"
    if deploy not in (None, RUNTIME):
        yield unknown("compressor.deploy", deploy, [RUNTIME, "null"])
    if type(samples) is not int or samples < 1:
        yield f"compressor.samples is an int of at least 1, got {samples!r}"
