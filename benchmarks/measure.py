"""What the numbers cost once the logits are there, beside torchmetrics.

Random logits that are right four times in five, one thread. Ours: the columns of the records from
the logits, then the values of every measurement of the base group that reads records, then their
intervals. Theirs: a collection of accuracy, top-5 accuracy, macro accuracy and calibration error,
updated in the same batches. Times are process CPU time of interleaved rounds; torchmetrics gives
four numbers and no interval, so the parts of ours are shown apart. Peak memory is that of a fresh
process.

    python benchmarks/measure.py

    samples=50000   rows
    classes=1000    columns
    rounds=3        interleaved rounds
    batch=500       rows at a time
"""

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import cpu_seconds, options_of, say  # noqa: E402

DEFAULTS = {"samples": "50000", "classes": "1000", "rounds": "3", "batch": "500"}
MB = 2**20


def main() -> None:
    """Print every ratio."""
    options = options_of(__doc__, DEFAULTS, optional=("only",))
    bench = Bench(*(int(options[name]) for name in ("samples", "classes", "batch")))
    if "only" in options:  # a fresh process of the memory benchmark
        getattr(bench, options["only"])()
        say(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
        return
    compare_times(bench, int(options["rounds"]))
    compare_memory(options)


def compare_times(bench: "Bench", rounds: int) -> None:
    """Columns, values, intervals and torchmetrics, in turns."""
    contestants: dict[str, Callable[[], Any]] = {
        "columns": bench.columns,
        "values": bench.values,
        "intervals": bench.intervals,
        "torchmetrics": bench.torchmetrics,
    }
    bench.everything()  # warm-up: imports, and the choice of algorithms
    bench.torchmetrics()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(cpu_seconds(run))
    shape = f"{len(bench.labels)} x {bench.logits.shape[1]}"
    say(f"{rounds} interleaved rounds, {shape} logits, CPU seconds (minimum, median)")
    for name, seconds in times.items():
        say(f"  {name:14} {min(seconds):8.2f} {statistics.median(seconds):8.2f}")
    numbers = [sum(pair) for pair in zip(times["columns"], times["values"], strict=True)]
    whole = [sum(pair) for pair in zip(numbers, times["intervals"], strict=True)]
    ratio("columns and values / torchmetrics", numbers, times["torchmetrics"])
    ratio("with all intervals / torchmetrics", whole, times["torchmetrics"])
    ratio("values again / torchmetrics", times["values"], times["torchmetrics"])
    say("seconds of each measurement with its intervals")
    for name, seconds in sorted(bench.each().items(), key=lambda item: -item[1]):
        say(f"  {name:28} {seconds:8.3f}")


def compare_memory(options: dict[str, str]) -> None:
    """Peak resident set of fresh processes."""
    for name in ("everything", "torchmetrics"):
        arguments = [f"{key}={value}" for key, value in options.items()]
        command = [sys.executable, __file__, *arguments, f"only={name}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = int(answer.stdout.splitlines()[-1]) / MB
        aim = " (aim < 2048)" if name == "everything" else ""
        say(f"peak memory of {name}: {peak:.0f} MB{aim}")


class Bench:
    """The same logits for both sides."""

    def __init__(self, samples: int, classes: int, batch: int) -> None:
        import torch

        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(0)
        self.batch = batch
        self.labels = torch.randint(classes, (samples,), generator=generator)
        self.logits = torch.randn(samples, classes, generator=generator)
        right = torch.rand(samples, generator=generator) < 0.8
        rows = torch.arange(samples)
        self.logits[rows, self.labels] += 8.0 * right
        self.records: Any = None

    def columns(self) -> None:
        """Every column of the records."""
        import torch

        from recording.columns import record_columns
        from recording.records import Records

        found = [
            record_columns(logits, labels)
            for logits, labels in zip(
                self.logits.split(self.batch), self.labels.split(self.batch), strict=True
            )
        ]
        columns = {name: torch.cat([one[name] for one in found]) for name in found[0]}
        ids = {"sample_id": torch.arange(len(self.labels)), "label": self.labels}
        self.records = Records({**ids, **columns}, classes=self.logits.shape[1])

    def values(self) -> None:
        """Every number."""
        for measurement in self.measurements().values():
            measurement.statistic(self.records)

    def intervals(self) -> None:
        """Every number with its interval."""
        for measurement in self.measurements().values():
            measurement.estimate(self.records)

    def everything(self) -> None:
        """All of ours."""
        self.columns()
        self.intervals()

    def each(self) -> dict[str, float]:
        """Seconds of each measurement with its intervals."""
        return {
            name: cpu_seconds(lambda one=one: one.estimate(self.records))  # type: ignore[misc]
            for name, one in self.measurements().items()
        }

    def measurements(self) -> dict[str, Any]:
        """Those of the base group that read the columns of the records alone."""
        from core.targets import resolve
        from measurements.catalogue import catalogue, chosen
        from measurements.measurement import RecordMeasurement

        if not hasattr(self, "_measurements"):
            kinds = {
                one.name: resolve(one.entry["_target_"], expects=object)
                for one in chosen(catalogue(), group="base")
            }
            self._measurements = {
                name: kind([], None, None)  # type: ignore[arg-type]
                for name, kind in kinds.items()
                if issubclass(kind, RecordMeasurement) and kind.needs == {"records"}
            }
        return self._measurements

    def torchmetrics(self) -> dict[str, Any]:
        """What people use instead."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

        classes = self.logits.shape[1]
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "top5": MulticlassAccuracy(classes, average="micro", top_k=5),
                "macro": MulticlassAccuracy(classes, average="macro"),
                "ece": MulticlassCalibrationError(classes, n_bins=15),
            }
        )
        for logits, labels in zip(
            self.logits.split(self.batch), self.labels.split(self.batch), strict=True
        ):
            metrics.update(logits, labels)
        return metrics.compute()


def ratio(name: str, above: list[float], below: list[float]) -> None:
    """Print a ratio of minima and of medians."""
    medians = statistics.median(above) / statistics.median(below)
    say(f"{name}: {min(above) / min(below):.3f} minima, {medians:.3f} medians")


if __name__ == "__main__":
    main()
