"""What a model costs: counted numbers and measured ones have different names."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.estimate import Estimate
from measurements.functional import cost
from measurements.functional.memory import peak_memory
from measurements.functional.timing import Latency as Timing
from measurements.functional.timing import (
    Session,
    best_throughput,
    interleaved_latency,
    latency,
    summarise,
)
from measurements.measurement import ModelMeasurement
from models.baking import baked
from models.base_model import ClassifierModule
from models.examples import example_images
from models.quantized import unpacked
from recording.loop import evaluating


class Parameters(ModelMeasurement):
    """Number of parameters, tied ones once; zeros count, removed channels do not.

    Of a model that another runtime runs: those of the network its file was made of, if noted.
    """

    kind = "benefit"
    unit, better, version = "parameters", "lower", 2

    def measure(self) -> dict[str, Estimate]:
        """Count of all parameters."""
        noted = self.model.counts
        count = cost.parameter_count(unpacked(self.model)) if noted is None else noted["params"]
        return {self.key("params"): self.value(count)}


class NonzeroParameters(ModelMeasurement):
    """Number of parameters that are not zero, as the forward pass uses them, tied ones once.

    Masks are baked first: under one that is still attached the parameter itself is dense.

    Reference:
        Blalock et al., What is the state of neural network pruning? (2020), compression ratio.
    """

    kind = "benefit"
    unit, better, version = "parameters", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Count of all parameters, biases and norms among them."""
        twin = baked(unpacked(self.model))
        count, total = cost.nonzero_count(twin), cost.parameter_count(twin)
        return {self.key("nonzero_params"): self.value(count, n=total)}


class WeightBits(ModelMeasurement):
    """Bits of all parameters, and of those of each type: what a lower precision saves.

    Of the types weights are stored in: autocast, and quantization that is only simulated in
    float32, leave 32 bits. Zeros count, buffers do not, scales of quantized weights do. Masks are
    baked first.
    """

    kind = "benefit"
    unit, better, version = "bits", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """`weight_bits`, and `weight_bits_<type>` for every type there is."""
        found = cost.weight_bits(baked(self.model))
        results = {self.key("weight_bits"): self.value(sum(found.values()))}
        for kind, bits in found.items():  # not better or worse: bits may move to another type
            results[self.key(f"weight_bits_{kind}")] = self.value(bits, better="")
        return results


class Macs(ModelMeasurement):
    """Multiply-accumulates of one image at the model's own resolution; zeros count.

    Of a model that another runtime runs: those of the network its file was made of, if noted.

    Reference:
        torch.utils.flop_counter, halved: one multiply-accumulate is two operations.
    """

    kind = "benefit"
    unit, better, version = "MACs", "lower", 2

    def measure(self) -> dict[str, Estimate]:
        """Count of one forward pass of one image."""
        noted = self.model.counts
        if noted is None:
            macs = cost.mac_count(self.model, example_images(self.model))
        else:
            macs = noted["macs"]
        return {self.key("macs"): self.value(macs)}


class WeightBytes(ModelMeasurement):
    """Bytes of the weights on disk, as an uncompressed safetensors file; masks are baked first.

    Of a model that another runtime runs: those of its own file, which has the graph in it.
    """

    kind = "benefit"
    unit, better, version = "bytes", "lower", 2

    def measure(self) -> dict[str, Estimate]:
        """Size of the file."""
        own = _own_files(self.model)
        found = sum(map(len, own)) or cost.weight_bytes(baked(self.model)).safetensors
        return {self.key("weight_bytes"): self.value(found)}


class ZippedBytes(ModelMeasurement):
    """Bytes of the same file after gzip, level 6: here zeros and repeated values save something.

    Masks are baked first: one that is still attached would double the file.
    """

    kind = "benefit"
    unit, better, version = "bytes", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Size of the gzip file."""
        own = _own_files(self.model)
        found = sum(map(cost.zipped, own)) or cost.zipped_bytes(baked(self.model))
        return {self.key("file_bytes_gzip"): self.value(found)}


class PeakMemory(ModelMeasurement):
    """Most bytes that a forward pass of one batch holds beyond what was held before it.

    Args:
        batch_size: Images in the batch.
    """

    kind = "benefit"
    needs = frozenset({"timing"})
    unit, better, version = "bytes", "lower", 1
    deterministic = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        batch_size: int = 32,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.batch_size = batch_size

    def measure(self) -> dict[str, Estimate]:
        """Working bytes of one pass."""
        images = example_images(self.model, self.batch_size)
        with evaluating(self.model):
            found = peak_memory(forward_pass(self.model, images), device=images.device)
        return {self.key("peak_memory"): self.value(found.working_bytes, n=self.batch_size)}


class Latency(ModelMeasurement):
    """Time of one forward pass, and throughput of a batch, beside the baseline's.

    Baseline and candidate take turns in one session (A B B A B A A B): on a shared machine only
    their ratio means much, and numbers of two sessions are never subtracted.

    Args:
        seconds: Least duration of each session, without the warm-up.
        batch_size: Images of a latency call.
        throughput_batch_size: Images of a throughput call.

    Reference:
        MLPerf inference rules: percentiles over at least 100 queries, after a warm-up.
    """

    kind = "benefit"
    needs = frozenset({"timing"})
    unit, better, version = "ms", "lower", 2
    deterministic = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        seconds: float = 10.0,
        batch_size: int = 1,
        throughput_batch_size: int = 32,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.seconds = seconds
        self.batch_size, self.throughput_batch_size = batch_size, throughput_batch_size

    def measure(self) -> dict[str, Estimate]:
        """Percentiles in ms and images/s; with a baseline also its values and the ratio."""
        single = self._session(self.batch_size)
        results = {**_percentiles(self, "", single["candidate"]), **self._throughput()}
        if "baseline" in single:
            results |= _percentiles(self, "baseline_", single["baseline"])
            low, high = single["interval"]
            results["latency_ratio"] = self.value(
                single["ratio"], n=single["candidate"].runs, low=low, high=high, unit="x"
            )
        return {self.key(name): estimate for name, estimate in results.items()}

    def _session(self, batch_size: int) -> dict[str, Any]:
        images = example_images(self.model, batch_size)
        session = Session(min_seconds=self.seconds, synchronize=synchronizer(images.device))
        baseline = self.model.baseline
        with evaluating(self.model):
            if baseline is None:
                return {"candidate": latency(forward_pass(self.model, images), session)}
            reference = example_images(baseline, batch_size)
            with evaluating(baseline):
                found = interleaved_latency(
                    forward_pass(self.model, images), forward_pass(baseline, reference), session
                )
        return {
            "candidate": found.candidate,
            "baseline": found.baseline,
            "ratio": found.ratio,
            "interval": found.ratio_interval,
        }

    def _throughput(self) -> dict[str, Estimate]:
        """Images a second of each model, by the median of calls in turns; at least three each."""
        times = in_turns(self.model, self.throughput_batch_size, seconds=self.seconds)
        return {
            f"{prefix}throughput": self.value(
                1000 * self.throughput_batch_size / statistics.median(ms),
                n=len(ms),
                unit="images/s",
                better="higher",
            )
            for prefix, ms in times.items()
        }


class BestThroughput(ModelMeasurement):
    """Images a second at the batch size that gives most, beside the baseline's at its own best.

    At every batch size the two models take turns; each has at least three calls.

    Args:
        seconds: Least duration at each batch size, without the warm-up.
        batch_sizes: Batch sizes that are tried.
    """

    kind = "benefit"
    needs = frozenset({"timing"})
    unit, better, version = "images/s", "higher", 1
    deterministic = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        seconds: float = 0.5,
        batch_sizes: Sequence[int] = (8, 32, 128),
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if not batch_sizes or min(batch_sizes) < 1:
            raise ValueError(f"batch_sizes are numbers of images >= 1, got {list(batch_sizes)}")
        self.seconds, self.batch_sizes = seconds, list(batch_sizes)

    def measure(self) -> dict[str, Estimate]:
        """Images a second and the batch size, of each model, and the ratio of the two."""
        sweep = {
            size: in_turns(self.model, size, seconds=self.seconds) for size in self.batch_sizes
        }
        results = {}
        for prefix in sweep[self.batch_sizes[0]]:
            timings = {size: summarise(times[prefix]) for size, times in sweep.items()}
            best = best_throughput(timings)
            results[f"{prefix}best_throughput"] = self.value(
                best.images_per_second, n=timings[best.batch_size].runs
            )
            results[f"{prefix}best_batch_size"] = self.value(
                best.batch_size, unit="images", better=""
            )
        if "baseline_best_throughput" in results:
            ratio = results["best_throughput"] / results["baseline_best_throughput"]
            results["best_throughput_ratio"] = self.value(ratio, unit="x")
        return {self.key(name): estimate for name, estimate in results.items()}


def in_turns(model: ClassifierModule, batch_size: int, *, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of calls of a model (``""``) and its baseline (`baseline_`), in turns.

    At least three calls each, after one that is not timed.
    """
    models = {"": model}
    if model.baseline is not None:
        models["baseline_"] = model.baseline
    calls = {
        prefix: forward_pass(each, example_images(each, batch_size))
        for prefix, each in models.items()
    }
    session = Session(synchronize=synchronizer(model.device))
    times: dict[str, list[float]] = {prefix: [] for prefix in calls}
    with ExitStack() as stack:
        for each in models.values():
            stack.enter_context(evaluating(each))
        for call in calls.values():
            session.run(call)  # warm-up
        started = session.clock()
        while len(times[""]) < 3 or session.clock() - started < seconds:
            for prefix, call in calls.items():
                times[prefix].append(session.run(call))
    return times


def _percentiles(measurement: Latency, prefix: str, timing: Timing) -> dict[str, Estimate]:
    ms = {"p50": timing.median_ms, "p90": timing.p90_ms, "p99": timing.p99_ms}
    return {
        f"{prefix}latency_{percentile}_ms": measurement.value(value, n=timing.runs)
        for percentile, value in ms.items()
    }


def _own_files(model: ClassifierModule) -> list[bytes]:
    """Contents of the files a runtime runs; none for a model of torch."""
    return [Path(file).read_bytes() for file in model.files.values()]


def forward_pass(model: ClassifierModule, images: Tensor) -> Callable[[], object]:
    """The call that is timed."""
    return lambda: model(images)


def synchronizer(device: torch.device) -> Callable[[], object]:
    """Waits for a device."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
