"""What a checked compression costs beside the bare call of the engine below it.

ResNet-50 with random weights, half of the filters of each layer, one thread, process CPU time of
interleaved rounds. Ours: `l1_filter`, which decides, tries out, removes, stores and checks itself,
and its parts. Theirs: torch-pruning's graph, importance and removal, unchecked. Then the harness
with the same recipe again: it finds what it made.

    python benchmarks/compress.py

    rounds=2          interleaved rounds
    size=224          pixels
    network=resnet50  of timm
"""

import copy
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DEFAULTS = {"rounds": "2", "size": "224", "network": "resnet50"}


def main() -> None:
    """Print every ratio."""
    options = {**DEFAULTS, **dict(argument.partition("=")[::2] for argument in sys.argv[1:])}
    if set(options) != set(DEFAULTS):
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    bench = Bench(options["network"], int(options["size"]))
    compare_calls(bench, int(options["rounds"]))
    compare_again(options["network"])


def compare_calls(bench: "Bench", rounds: int) -> None:
    """Whole call, its decision alone, and torch-pruning, in turns."""
    contestants = {
        "compress": bench.compress,
        "decide": bench.decide,
        "torch-pruning": bench.torch_pruning,
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    bench.torch_pruning()  # warm-up: first calls choose algorithms
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(cpu_seconds(run))
    say(f"{rounds} interleaved rounds, process CPU seconds (minimum, median)")
    for name, seconds in times.items():
        say(f"  {name:14} {min(seconds):8.2f} {statistics.median(seconds):8.2f}")
    ratio("compress / torch-pruning", times["compress"], times["torch-pruning"], " (aim < 3)")
    ratio("decide / torch-pruning", times["decide"], times["torch-pruning"], "")


def compare_again(network: str) -> None:
    """The same recipe a second time, through the store."""
    from hydra import compose, initialize_config_dir

    from core.configuration import plain
    from core.targets import build
    from evaluation.compression import find_or_compress
    from models.base_model import ClassifierModule
    from recording.recorder import Recorder

    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=timm", f"model.timm_name={network}", "model.pretrained=false"]
        overrides += ["compressor=l1_filter", f"results_dir={folder}"]
        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "config")):
            config = compose("evaluate_defaults", overrides=overrides)
        model = build(plain(config.model), expects=ClassifierModule).eval()
        seconds = []
        for _ in range(2):
            recorder = Recorder.from_config(config)
            seconds.append(cpu_seconds(lambda at=recorder: find_or_compress(model, config, at)))
    say(f"the harness: {seconds[0]:.2f} s, the same recipe again: {seconds[1]:.2f} s (aim < 1)")


class Bench:
    """One network, compressed by both sides."""

    def __init__(self, network: str, size: int) -> None:
        import torch

        from compressors.pruning.filters import L1Filter
        from models.timm_model import TimmModel

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = TimmModel(network, pretrained=False).eval()
        self.images = torch.rand(1, 3, size, size)
        self.recipe = L1Filter(sparsity=0.5)

    def compress(self) -> Any:
        """With every check."""
        return self.recipe.compress(self.model, self.images)

    def decide(self) -> Any:
        """Which filters go, tried out."""
        return self.recipe.plan(self.model, self.images)

    def torch_pruning(self) -> Any:
        """What people call instead."""
        import torch_pruning
        from torch import nn

        model = copy.deepcopy(self.model.backbone)
        heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            self.images,
            importance=torch_pruning.importance.MagnitudeImportance(p=1),
            pruning_ratio=0.5,
            ignored_layers=heads,
        )
        pruner.step()
        return model


def cpu_seconds(run: Callable[[], Any]) -> float:
    """CPU time of this process while `run` runs."""
    started = time.process_time()
    run()
    return time.process_time() - started


def ratio(name: str, above: list[float], below: list[float], aim: str) -> None:
    """Print a ratio of minima and of medians."""
    medians = statistics.median(above) / statistics.median(below)
    say(f"{name}: {min(above) / min(below):.2f} minima, {medians:.2f} medians{aim}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
