"""What the harness costs beside the loops people write.

Published ResNet-20 on the CIFAR-10 test set, batch size 128. Times are process CPU time of
interleaved rounds in one process, after all imports; ratios are of minima and of medians. Peak
memory and start-up are measured in fresh processes. Intervals are counted apart: nothing that the
harness is compared with gives any.

    python benchmarks/evaluate.py data_dir=PATH

    data_dir=PATH   folder with cifar10/ and weights/resnet20-12fca82f.th
    rounds=5        interleaved rounds
    limit=null      only so many samples, for a quick look
"""

import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import cpu_seconds, options_of, say  # noqa: E402

MEASUREMENTS = (
    "accuracy",
    "per_class_accuracy",
    "worst_class",
    "nonfinite",
    "class_collapse",
    "nll",
    "brier",
    "confidence_gap",
    "calibration",
    "calibration_debiased",
    "selective",
    "risk_at_coverage",
)

BARE_HYDRA = """
import hydra
@hydra.main(version_base="1.3", config_path={folder!r}, config_name="evaluate_defaults")
def main(config): pass
main()
"""


def main() -> None:
    """Print every ratio."""
    options = options_of(__doc__, {}, optional=("data_dir", "rounds", "limit", "only"))
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    if not options:
        say("needs data_dir=PATH, a folder with cifar10/ and weights/resnet20-12fca82f.th: skipped")
        return
    if "data_dir" not in options:
        sys.exit(__doc__)
    if "only" in options:  # a fresh process of the memory benchmark
        say(json.dumps(peak_of(options)))
        return
    rounds = int(options.get("rounds", 5))
    compare_loops(options, rounds)
    compare_memory(options)
    compare_startup(rounds)


def compare_loops(options: dict[str, str], rounds: int) -> None:
    """Harness, bare loop and one `trainer.test` a measurement, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Harness(options, Path(folder))
        contestants: dict[str, Callable[[], Any]] = {
            "bare loop": bench.bare_loop,
            "harness": bench.harness,
            "cached": bench.cached,
            "trainer.test": bench.one_trainer_test,
        }
        bench.bare_loop()  # warm-up: first calls choose algorithms
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, run in contestants.items():
                times[name].append(cpu_seconds(run))
        intervals = cpu_seconds(bench.intervals)
    several = [len(MEASUREMENTS) * seconds for seconds in times["trainer.test"]]
    say(f"{rounds} interleaved rounds, process CPU seconds (minimum, median)")
    for name, seconds in {**times, f"{len(MEASUREMENTS)} x trainer.test": several}.items():
        say(f"  {name:18} {min(seconds):8.2f} {statistics.median(seconds):8.2f}")
    say(f"  {'intervals, apart':18} {intervals:8.2f}")
    ratio("harness / bare loop", times["harness"], times["bare loop"], "aim <= 1.05")
    ratio(f"{len(MEASUREMENTS)} x trainer.test / harness", several, times["harness"], "aim >= 8")
    ratio("cached / harness", times["cached"], times["harness"], "no forward pass")


def compare_memory(options: dict[str, str]) -> None:
    """Peak resident set of fresh processes."""
    peaks = {}
    for name in ("bare_loop", "harness"):
        arguments = [f"{key}={value}" for key, value in options.items()]
        command = [sys.executable, __file__, *arguments, f"only={name}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = json.loads(answer.stdout.splitlines()[-1])
    harness, bare = peaks["harness"]["peak"], peaks["bare_loop"]["peak"]
    say(f"peak memory: harness {harness / 2**20:.0f} MB, bare loop {bare / 2**20:.0f} MB")
    say(f"  harness / bare loop: {harness / bare:.3f} (aim <= 1.2)")


def compare_startup(rounds: int) -> None:
    """`evaluate.py --cfg job` against a Hydra app that does nothing, on the same configuration."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(BARE_HYDRA.format(folder=str(ROOT / "config")))
        ours = [sys.executable, str(ROOT / "evaluate.py"), "--cfg", "job"]
        bare = [sys.executable, str(app), "--cfg", "job"]
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(rounds + 1):
            times["ours"].append(child_seconds(ours))
            times["bare"].append(child_seconds(bare))
    say("start-up of --cfg job, CPU seconds of the process")
    ratio("  evaluate.py / bare Hydra app", times["ours"][1:], times["bare"][1:], "aim <= 1.3")


class Loops:
    """The loops people write, on the published ResNet-20 and the CIFAR-10 test set."""

    def __init__(self, options: dict[str, str], folder: Path) -> None:
        from hydra import compose, initialize_config_dir

        from core.configuration import plain
        from core.targets import build
        from datamodules.base import ImageDataModule
        from models.base_model import ClassifierModule

        data = Path(options["data_dir"]).resolve()
        overrides = [
            "model=cifar_resnet20",
            f"model.checkpoint={data / 'weights' / 'resnet20-12fca82f.th'}",
            "datasets=[cifar10]",
            f"dataset_library.cifar10.root={data / 'cifar10'}",
            f"measurements=[{','.join(MEASUREMENTS)}]",
            f"limit_samples={options.get('limit', 'null')}",
        ]
        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "config")):
            self.config = compose("evaluate_defaults", overrides=overrides)
        self.folder = folder
        self.model = build(plain(self.config.model), expects=ClassifierModule).eval()
        library = plain(self.config.dataset_library)
        self.datamodule = build(library["cifar10"], expects=ImageDataModule)
        self.datamodule.preprocessing = self.model.preprocessing
        self.datamodule.dataset("test")  # all contestants find the pixels in memory

    @property
    def batches(self) -> int | None:
        """Batches of a pass; None for all."""
        limit = self.config.limit_samples
        return None if limit is None else -(-limit // self.config.batch_size)

    def bare_loop(self) -> float:
        """A loop, the logits, one accuracy."""
        import torch

        logits, labels = [], []
        with torch.inference_mode():
            for images, truth in islice(self.datamodule.test_dataloader(), self.batches):
                logits.append(self.model(images))
                labels.append(truth)
        return float(torch.cat(logits).argmax(dim=1).eq(torch.cat(labels)).float().mean())

    def one_trainer_test(self) -> Any:
        """One pass of Lightning for one measurement, as a harness without records runs it."""
        import pytorch_lightning as pl

        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_test_batches=1.0 if self.batches is None else self.batches,
        )
        return trainer.test(self.model, self.datamodule.test_dataloader(), verbose=False)


class Harness(Loops):
    """The harness on the same model and the same pixels."""

    def __init__(self, options: dict[str, str], folder: Path) -> None:
        super().__init__(options, folder)
        self.stores = 0
        self.recorder: Any = None

    def harness(self) -> int:
        """A pass into a new store, and the values of all measurements from its records."""
        from recording.recorder import Recorder

        self.stores += 1
        self.config.results_dir = str(self.folder / str(self.stores))
        self.recorder = Recorder.from_config(self.config)
        # the pixels are in memory, as they are for the loops
        self.recorder._datamodules[f"cifar10 {self.model.preprocessing}"] = self.datamodule
        return self.cached()

    def cached(self) -> int:
        """The values of all measurements, from records where there are any."""
        return sum(len(each.statistic(each.records("cifar10"))) for each in self._measurements())

    def intervals(self) -> int:
        """Every interval of every measurement."""
        return sum(len(each.intervals(each.records("cifar10"))) for each in self._measurements())

    def _measurements(self) -> list[Any]:
        from evaluation.library import build_measurements

        return [
            measurement
            for name in MEASUREMENTS
            for _, _, measurement in build_measurements(
                name, self.model, self.config, self.recorder
            )
        ]


def peak_of(options: dict[str, str]) -> dict[str, int]:
    """Run one contestant in this process; its peak resident set in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        if options["only"] == "harness":
            Harness(options, Path(folder)).harness()
        else:
            Loops(options, Path(folder)).bare_loop()
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def child_seconds(command: list[str]) -> float:
    """CPU time of a child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratio(name: str, above: list[float], below: list[float], aim: str) -> None:
    """Print a ratio of minima and of medians."""
    medians = statistics.median(above) / statistics.median(below)
    say(f"{name}: {min(above) / min(below):.3f} minima, {medians:.3f} medians ({aim})")


if __name__ == "__main__":
    main()
