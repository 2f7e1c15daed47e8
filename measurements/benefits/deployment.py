"""What a model costs around its forward pass: energy, start, dependence on the batch, making it."""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.benefits.cost import forward_pass, synchronizer
from measurements.functional.energy import counter_of, energy_of
from measurements.measurement import Measurement, ModelMeasurement
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier
from models.examples import example_images
from recording.loop import evaluating


class Energy(ModelMeasurement):
    """Joules for 1000 images above what the idle device takes.

    A GPU's board by NVML, a CPU's packages by Linux's RAPL counters; not applicable without one
    that can be read. Other programs on the device count too. Noise may make it negative.

    Args:
        seconds: Least duration of the passes.
        idle_seconds: Duration of the idle period before them.
        batch_size: Images of a pass.
    """

    kind = "benefit"
    needs = frozenset({"timing"})
    unit, better, version = "J/1000 images", "lower", 1
    deterministic = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        seconds: float = 10.0,
        idle_seconds: float = 5.0,
        batch_size: int = 32,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.seconds, self.idle_seconds, self.batch_size = seconds, idle_seconds, batch_size

    def measure(self) -> dict[str, Estimate]:
        """Energy above idle, and the power when idle."""
        images = example_images(self.model, self.batch_size)
        counter = counter_of(images.device)
        with evaluating(self.model):
            found = energy_of(
                forward_pass(self.model, images),
                counter,
                seconds=self.seconds,
                idle_seconds=self.idle_seconds,
                synchronize=synchronizer(images.device),
            )
        joules = 1000 * found.joules_per_call / self.batch_size
        return {
            self.key("energy"): self.value(joules, n=found.calls),
            self.key("idle_power"): self.value(found.idle_watts, unit="W", better=""),
        }


class StartUp(ModelMeasurement):
    """Time until a model that is built has its weights, and of its first pass of one image.

    `load_ms`: weights from a safetensors file into the network (for a model of another runtime: the
    session opened from its files), with the file in the system's cache. `first_inference_ms`: the
    first pass after that, which pays for packed weights and chosen algorithms. Medians over fresh
    copies in this process; starting Python and importing torch is in neither.

    Args:
        repeats: Fresh copies.
    """

    kind = "benefit"
    needs = frozenset({"timing"})
    unit, better, version = "ms", "lower", 1
    deterministic = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        repeats: int = 5,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if repeats < 1:
            raise ValueError(f"repeats is at least 1, got {repeats}")
        self.repeats = repeats

    def measure(self) -> dict[str, Estimate]:
        """Both medians."""
        images = example_images(self.model)
        with tempfile.TemporaryDirectory() as folder:
            load = self._loader(Path(folder))
            pairs = [self._once(load, images) for _ in range(self.repeats)]
        names = "load_ms", "first_inference_ms"
        return {
            self.key(name): self.value(statistics.median(times), n=self.repeats)
            for name, times in zip(names, zip(*pairs, strict=True), strict=True)
        }

    def _once(
        self, load: Callable[[], tuple[ClassifierModule, float]], images: Tensor
    ) -> tuple[float, float]:
        fresh, loading = load()
        with evaluating(fresh):
            return loading, _milliseconds(lambda: fresh(images), images.device)

    def _loader(self, folder: Path) -> Callable[[], tuple[ClassifierModule, float]]:
        if self.model.runtime == "torch":
            return self._weights_loader(folder / "weights.safetensors")
        if isinstance(self.model, DeployedClassifier):
            return self._session_loader
        raise NotApplicable(f"how a model run by {self.model.runtime} starts is not known")

    def _weights_loader(self, file: Path) -> Callable[[], tuple[ClassifierModule, float]]:
        state = self.model.state_dict()
        plain = (torch.Tensor, torch.nn.Parameter)
        if not all(type(value) in plain and not value.is_quantized for value in state.values()):
            raise NotApplicable("packed weights are in no safetensors file")
        file.write_bytes(
            safetensors.torch.save({name: t.contiguous().clone() for name, t in state.items()})
        )
        device = str(self.model.device)

        def load() -> tuple[ClassifierModule, float]:
            fresh = copy.deepcopy(self.model)
            time_ms = _milliseconds(
                lambda: fresh.load_state_dict(safetensors.torch.load_file(file, device=device)),
                self.model.device,
            )
            return fresh, time_ms

        return load

    def _session_loader(self) -> tuple[ClassifierModule, float]:
        """A copy opens its session anew; nothing else in it takes time."""
        made: list[ClassifierModule] = []
        time_ms = _milliseconds(lambda: made.append(copy.deepcopy(self.model)), self.model.device)
        return made[0], time_ms


class BatchDependence(Measurement):
    """How far the logits of an image depend on the others in its batch.

    Rounding alone gives about 1e-6 in float32. Quantization whose ranges are taken from each batch
    gives far more: such a model answers differently alone than in a crowd. Images for which a logit
    is not finite do not take part.

    Args:
        samples: Images, given once together in batches and once one by one.
    """

    kind = "benefit"
    needs = frozenset({"images"})
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 64,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.samples = samples

    def definition(self) -> dict[str, Any]:
        """Changes with the size of the batches."""
        return {**super().definition(), "batch": self.recorder.options.batch_size}

    def measure(self) -> dict[str, Estimate]:
        """Largest difference as a share of the largest logit, and share of changed decisions."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            together, alone = self._logits(name)
            n = len(alone)
            if not n:
                raise NotApplicable(f"no image of {name} gets finite logits")
            off = (together - alone).abs().max() / alone.abs().max().clamp(min=1e-12)
            changed = (together.argmax(1) != alone.argmax(1)).double().mean()
            for measured, value in (("batch_dependence", off), ("batch_decisions", changed)):
                key = metric_key(name, self.split, measured)
                results[key] = self.value(value.item(), n=n)
        return results

    def _logits(self, name: str) -> tuple[Tensor, Tensor]:
        together, alone = [], []
        batches = self.recorder.images(self.model, name, self.split, samples=self.samples)
        with evaluating(self.model):
            for batch in batches:
                together.append(self.model(batch.images).cpu())
                alone += [self.model(image[None]).cpu() for image in batch.images]
        pair = torch.stack([torch.cat(together), torch.cat(alone)])
        crowd, single = pair[:, pair.isfinite().all(dim=2).all(dim=0)]
        return crowd, single


class CompressionCost(ModelMeasurement):
    """What it took to make the compressed model: wall-clock seconds, once, when it was made.

    Those of the machine and the moment of the artifact, which may have been made long ago. The
    compressor's own checks are in it, the writing of the artifact is not.
    """

    kind = "benefit"
    unit, better, version = "s", "lower", 1
    deterministic = False

    def measure(self) -> dict[str, Estimate]:
        """Seconds of each step of the recipe and of all."""
        seconds = self.model.achieved.get("seconds")
        if not seconds:
            raise NotApplicable("the model was not compressed here, or by an earlier version")
        named = {"compression_seconds": sum(seconds.values())}
        named |= {f"compression_seconds_{step}": value for step, value in seconds.items()}
        return {self.key(name): self.value(value) for name, value in named.items()}


def _milliseconds(call: Callable[[], object], device: torch.device) -> float:
    synchronize = synchronizer(device)
    synchronize()
    started = time.perf_counter()
    call()
    synchronize()
    return 1000 * (time.perf_counter() - started)
