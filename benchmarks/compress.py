"""What a checked compression costs beside the bare call of the engine below it.

ResNet-50 with random weights, half of the filters of each layer, one thread, process CPU time of
interleaved rounds. Ours: `l1_filter`, which decides, tries out, removes, stores and checks itself;
its time is taken apart into the stored program (written, read back, compared) and all the rest.
Theirs: torch-pruning's graph, importance and removal, unchecked, and torch's export, save and load
of what came out, for any batch size as ours. Then the harness, and the same recipe again: it finds
what it made.

    python benchmarks/compress.py

    rounds=2          interleaved rounds
    size=224          pixels
    network=resnet50  of timm
"""

import copy
import io
import logging
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import cpu_seconds, options_of, say  # noqa: E402

DEFAULTS = {"rounds": "2", "size": "224", "network": "resnet50"}


def main() -> None:
    """Print every ratio."""
    options = options_of(__doc__, DEFAULTS)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    bench = Bench(options["network"], int(options["size"]))
    compare_calls(bench, int(options["rounds"]))
    compare_again(options["network"])


def compare_calls(bench: "Bench", rounds: int) -> None:
    """Whole call, its parts, torch-pruning and torch's own stored program, in turns."""
    names = ("compress", "stored program", "the rest", "decide", "torch-pruning", "bare program")
    times: dict[str, list[float]] = {name: [] for name in names}
    network = bench.torch_pruning()  # warm-up: first calls choose algorithms
    for _ in range(rounds):
        whole, stored = bench.compress()
        times["compress"].append(whole)
        times["stored program"].append(stored)
        times["the rest"].append(whole - stored)
        times["decide"].append(cpu_seconds(bench.decide))
        times["torch-pruning"].append(cpu_seconds(bench.torch_pruning))
        times["bare program"].append(cpu_seconds(partial(bench.bare_program, network)))
    say(f"{rounds} interleaved rounds, process CPU seconds (minimum, median)")
    for name, seconds in times.items():
        say(f"  {name:14} {min(seconds):8.2f} {statistics.median(seconds):8.2f}")
    bare = times["bare program"]
    theirs = [sum(pair) for pair in zip(times["torch-pruning"], bare, strict=True)]
    ratio("compress / torch-pruning", times["compress"], times["torch-pruning"])
    ratio("the rest / torch-pruning (aim < 3)", times["the rest"], times["torch-pruning"])
    ratio("stored program / bare program", times["stored program"], bare)
    ratio("compress / (torch-pruning + bare program)", times["compress"], theirs)


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

    def compress(self) -> tuple[float, float]:
        """Seconds with every check, and those of them that storing and reading back took."""
        from compressors import selfcheck

        check, parts = selfcheck.check_reload, []

        def timed(*given: Any) -> Any:
            started = time.process_time()
            stored = check(*given)
            parts.append(time.process_time() - started)
            return stored

        with mock.patch.object(selfcheck, "check_reload", timed):
            whole = cpu_seconds(lambda: self.recipe.compress(self.model, self.images))
        return whole, sum(parts)

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

    def bare_program(self, network: Any) -> Any:
        """Torch's own export, file and reading of it, unchecked."""
        import torch

        images = self.images.new_zeros(2, *self.images.shape[1:])
        free = ({0: torch.export.Dim("batch", min=1)},)
        with torch.no_grad():
            program = torch.export.export(network, (images,), dynamic_shapes=free)
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        return torch.export.load(file).module()


def ratio(name: str, above: list[float], below: list[float]) -> None:
    """Print a ratio of minima and of medians."""
    medians = statistics.median(above) / statistics.median(below)
    say(f"{name}: {min(above) / min(below):.2f} minima, {medians:.2f} medians")


if __name__ == "__main__":
    main()
