"""Does a search find a better network than the same share of every layer does?

Published ResNet-20, CIFAR-10, filters chosen by l1_filter. The control loses the same share of
every layer until it has `macs` times fewer multiply-accumulates; the searches may spend as many
multiply-accumulates as it has, or as many parameters. Both sides score as many networks on images
8000-9999 of data_batch_1 before any training: the searches shift shares between layers; the control
tries other filters at the same shares, by weights that are scaled at random, l1_filter's own choice
among them. BatchNorm statistics are estimated anew before every score. The best of each side is
fine-tuned for the same epochs on images 0-7999, in the same order, and tested once; the test is
paired, image by image (McNemar, exact).

    python benchmarks/searches.py data_dir=PATH

    data_dir=PATH    folder with cifar10/ and weights/resnet20-12fca82f.th
    only=a,b         some searches, of which the one with the best score goes on; default
                     simulated_annealing
    candidates=24    networks that each side scores
    seeds=3          repetitions: of the search, the control and the fine-tuning
    epochs=3         of fine-tuning
    macs=2.1         times fewer multiply-accumulates
    results=FILE     JSON lines; what stands there is not done again; default
                     results/benchmarks/searches-<epochs>-<macs>-<candidates>.jsonl
"""

import copy
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cifar10 import Data, accuracy, hits, published, quieten, tune  # noqa: E402
from benchmarks.command import options_of, say  # noqa: E402
from compressors.cost import count_macs  # noqa: E402
from compressors.pruning.filters import L1Filter  # noqa: E402
from compressors.search.auto_compress import AutoCompress  # noqa: E402
from compressors.search.base import Search  # noqa: E402
from compressors.search.net_adapt import NetAdapt  # noqa: E402
from compressors.search.norms import estimate_norms  # noqa: E402
from compressors.search.sensitivity import Sensitivity  # noqa: E402
from compressors.search.simulated_annealing import SimulatedAnnealing  # noqa: E402
from measurements.functional.paired import mcnemar  # noqa: E402
from models.edits import enforce, perform  # noqa: E402

SEARCHES: Mapping[str, Callable[..., Search]] = {
    "simulated_annealing": SimulatedAnnealing,
    "net_adapt": NetAdapt,
    "sensitivity": Sensitivity,
    "auto_compress": AutoCompress,
}
BUDGETS = ("macs", "params")
CONTROL = "uniform"

STEP = 1 / 64
"""Of sparsity, while the control's is looked for."""

NOISE = 0.2
"""Deviation of the logarithm of what the control scales weights by."""

STATISTICS_SAMPLES = 1024
"""Of the images that are tuned on."""

Network = tuple[nn.Module, float]
"""With its score."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One fine-tuned network.

    Args:
        arm: uniform, or the quantity that a search was held to.
        chosen: What made it.
        seed: Of search or control, and of fine-tuning.
        macs: Multiply-accumulates of an image.
        params: Of the network.
        score: Share of the score images that is right, before fine-tuning.
        right: Of each test image, in the end, as a string of 0 and 1.
    """

    arm: str
    chosen: str
    seed: int
    macs: int
    params: int
    score: float
    right: str

    @property
    def test(self) -> float:
        """Share of the test images that is right."""
        return self.right.count("1") / len(self.right)


def main() -> None:
    """Do what is missing, then print the table."""
    text = f"{__doc__}\n    searches: {', '.join(SEARCHES)}"
    given = options_of(
        text, {}, optional={"data_dir", "only", "candidates", "seeds", "epochs", "macs", "results"}
    )
    if not given:
        say("needs data_dir=PATH, a folder with cifar10/ and weights/resnet20-12fca82f.th: skipped")
        return
    names = given.get("only", "simulated_annealing").split(",")
    if "data_dir" not in given or set(names) - set(SEARCHES):
        sys.exit(text)
    quieten()
    epochs, times = int(given.get("epochs", 3)), float(given.get("macs", 2.1))
    bench = Bench(Path(given["data_dir"]), int(given.get("candidates", 24)), times, names)
    kept = f"searches-{epochs}-{times:g}-{bench.candidates}.jsonl"
    file = Path(given.get("results", ROOT / "results" / "benchmarks" / kept))
    file.parent.mkdir(parents=True, exist_ok=True)
    cases = [(arm, s) for s in range(int(given.get("seeds", 3))) for arm in (CONTROL, *BUDGETS)]
    done = {(one.arm, one.seed) for one in outcomes(file)}
    missing = [case for case in cases if case not in done]
    for arm, seed in track(missing, description="searching", disable=not sys.stderr.isatty()):
        outcome = bench.outcome(arm, seed, epochs)
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(outcome)) + "\n")
    say(table([one for one in outcomes(file) if (one.arm, one.seed) in cases]))


class Bench:
    """Baseline, data and the control that sets the budgets."""

    def __init__(self, folder: Path, candidates: int, times: float, names: list[str]) -> None:
        self.data, self.baseline = Data(folder / "cifar10", 8000), published(folder)
        self.image = self.data.test[0][:1]
        self.candidates, self.names = candidates, names
        self.sparsity = self._sparsity(count_macs(self.baseline, self.image) / times)
        self.uniform = self._removed(self.baseline)

    def outcome(self, arm: str, seed: int, epochs: int) -> Outcome:
        """Choose, fine-tune, test once."""
        sides = [(CONTROL, self.control)] if arm == CONTROL else self._searches(arm)
        found = {name: side(seed) for name, side in sides}
        chosen = max(found, key=lambda name: found[name][1])
        model, score = found[chosen]
        tune(model, self.data.tuning, epochs=epochs, seed=seed, after_step=enforce)
        return Outcome(
            arm=arm,
            chosen=chosen,
            seed=seed,
            macs=count_macs(model, self.image),
            params=size(model),
            score=score,
            right="".join(str(int(hit)) for hit in hits(model, self.data.test).tolist()),
        )

    def control(self, seed: int) -> Network:
        """The same shares of all layers; the best of several choices of filters."""
        best: Network | None = None
        batches = self.data.resources(seed).batches
        for weights in self._weights(seed):
            model = self._removed(weights)
            estimate_norms(model, batches(STATISTICS_SAMPLES))
            score = accuracy(model, self.data.held_out)
            if best is None or score > best[1]:
                best = model, score
        assert best is not None
        return best

    def search(self, name: str, budget: str, seed: int) -> Network:
        """What a search makes of what the control has left."""
        count = {"macs": lambda net: count_macs(net, self.image), "params": size}[budget]
        gone = 1 - count(self.uniform) / count(self.baseline)
        options = {"budget": budget, "sparsity": gone, "epochs": 0}
        options["statistics_samples"] = STATISTICS_SAMPLES
        recipe = SEARCHES[name](max_evaluations=self.candidates, **options)
        decision = recipe.plan(self.baseline, self.data.test[0][:2], self.data.resources(seed))
        model = decision.model or copy.deepcopy(self.baseline)
        if decision.model is None:
            perform(model, decision.edits)
        return model, float(decision.achieved["score"])

    def _searches(self, budget: str) -> list[tuple[str, Callable[[int], Network]]]:
        return [(n, lambda seed, n=n: self.search(n, budget, seed)) for n in self.names]  # type: ignore[misc]

    def _weights(self, seed: int) -> Iterator[nn.Module]:
        """The baseline, then copies whose filters are scaled at random."""
        yield self.baseline
        chance = torch.Generator().manual_seed(seed)
        for _ in range(self.candidates - 1):
            noisy = copy.deepcopy(self.baseline)
            for layer in noisy.modules():
                if isinstance(layer, nn.Conv2d):
                    scale = torch.randn(len(layer.weight), 1, 1, 1, generator=chance) * NOISE
                    layer.weight.data *= scale.exp()
            yield noisy

    def _removed(self, weights: nn.Module) -> nn.Module:
        """The baseline without the filters that are the least by these weights."""
        model = copy.deepcopy(self.baseline)
        perform(model, L1Filter(sparsity=self.sparsity).plan(weights, self.data.test[0][:2]).edits)
        return model

    def _sparsity(self, most: float) -> float:
        """The lowest that leaves at most this many multiply-accumulates."""
        for step in range(1, 64):
            self.sparsity = step * STEP
            if count_macs(self._removed(self.baseline), self.image) <= most:
                return self.sparsity
        raise SystemExit(f"no sparsity leaves {most:,.0f} multiply-accumulates")


def table(found: list[Outcome]) -> str:
    """Markdown: a row for each arm, beside the control of the same seed."""
    control = {one.seed: one for one in found if one.arm == CONTROL}
    lines = [
        "| arm | MACs | parameters | before fine-tuning | test accuracy | - uniform |",
        "|---|---|---|---|---|---|",
    ]
    for arm in dict.fromkeys(one.arm for one in found):
        ones = [one for one in found if one.arm == arm]
        pairs = [(one, control[one.seed]) for one in ones if one.seed in control]
        chosen = " / ".join(sorted({one.chosen for one in ones}))
        name = chosen if arm == CONTROL else f"{chosen}, equal {arm}"
        lines.append(
            f"| {name} | {statistics.mean(o.macs for o in ones) / 1e6:.1f} M "
            f"| {statistics.mean(o.params for o in ones):,.0f} "
            f"| {statistics.mean(o.score for o in ones):.4f} "
            f"| {moments([o.test for o in ones])} | {'' if arm == CONTROL else compared(pairs)} |"
        )
    return "\n".join(lines)


def compared(pairs: list[tuple[Outcome, Outcome]]) -> str:
    """Difference of the test accuracy, and the p of each seed."""
    gains = [one.test - other.test for one, other in pairs]
    p_values = ", ".join(f"{paired_p(*pair):.2g}" for pair in pairs)
    return f"{moments(gains, sign='+')}; p {p_values}"


def paired_p(one: Outcome, other: Outcome) -> float:
    """Of McNemar's exact test."""
    first, second = (torch.tensor([hit == "1" for hit in o.right]) for o in (one, other))
    return float(mcnemar(first, baseline=second).p_value)


def moments(values: list[float], sign: str = "") -> str:
    """Mean and sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.4f} ± {deviation:.4f} (n={len(values)})"


def size(model: nn.Module) -> int:
    """Entries of all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def outcomes(file: Path) -> list[Outcome]:
    """What was done before."""
    lines: list[dict[str, Any]] = []
    if file.exists():
        lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [Outcome(**line) for line in lines]


if __name__ == "__main__":
    main()
