"""Which criteria choose filters better than chance, after fine-tuning.

Published ResNet-20, CIFAR-10. Every structured criterion removes filters until the network has
`macs` times fewer multiply-accumulates, and is fine-tuned for the same number of epochs on images
0-7999 of data_batch_1; images 8000-9999 of it give the score before fine-tuning. The baseline has
learned all of them, so that score is optimistic. The test set is looked at once a final model.
A criterion that trains by itself (slim, agp) has that many epochs less of fine-tuning.

    python benchmarks/criteria.py data_dir=PATH

    data_dir=PATH    folder with cifar10/ and weights/resnet20-12fca82f.th
    only=a,b         some criteria; default all
    seeds=3          fine-tunings of each: mean and standard deviation are over them
    epochs=3         of training, all in all
    macs=2.1         times fewer multiply-accumulates
    train=8000       images to tune on, from the first
    results=FILE     JSON lines; what stands there is not done again; default
                     results/benchmarks/criteria-<epochs>-<macs>-<train>.jsonl
"""

import copy
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cifar10 import Data, accuracy, published, quieten, tune  # noqa: E402
from benchmarks.command import options_of, say  # noqa: E402
from compressors.base import Compressor  # noqa: E402
from compressors.cost import count_macs  # noqa: E402
from compressors.pruning.agp import AGP  # noqa: E402
from compressors.pruning.bases import BASES  # noqa: E402
from compressors.pruning.slim import Slim  # noqa: E402
from compressors.resources import Resources  # noqa: E402
from core.errors import IncompatibleModel  # noqa: E402
from models.edits import enforce, perform  # noqa: E402
from models.small.resnet_cifar import CifarResNet  # noqa: E402

OWN_EPOCHS = 2
"""Epochs that a criterion trains by itself."""

STEP = 1 / 64
"""Of sparsity, while the strength for the wanted multiply-accumulates is looked for."""

CONTROL = "random_filter"

SIZED_BY = {"agp": "l1_filter"}
"""Who trains at every sparsity takes the one of its criterion: as many filters go."""


def _agp(sparsity: float) -> Compressor:
    epochs = {"start_epoch": 0, "end_epoch": OWN_EPOCHS, "frequency": 1}
    return AGP(
        initial_sparsity=0.0, final_sparsity=sparsity, pruning_algorithm="l1_filter", **epochs
    )


CRITERIA: Mapping[str, Callable[[float], Compressor]] = {
    **{
        name: lambda sparsity, kind=kind: kind(sparsity=sparsity)  # type: ignore[misc]
        for name, kind in BASES.items()
        if name != "level"
    },
    "slim": lambda sparsity: Slim(sparsity=sparsity, epochs=OWN_EPOCHS),
    "agp": _agp,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One fine-tuned network.

    Args:
        criterion: What chose the filters.
        seed: Of the criterion, the order of the images and the augmentation.
        epochs: Of training, all in all.
        sparsity: What the criterion was asked for.
        macs_ratio: Of the baseline, over the network.
        params: Of the network.
        score: Share of the score images that is right, before fine-tuning.
        test: Share of the test images that is right, in the end.
    """

    criterion: str
    seed: int
    epochs: int
    sparsity: float
    macs_ratio: float
    params: int
    score: float
    test: float


def main() -> None:
    """Fine-tune what is missing, then print the table."""
    text = f"{__doc__}\n    criteria: {', '.join(CRITERIA)}"
    given = options_of(
        text, {}, optional={"data_dir", "only", "seeds", "epochs", "macs", "train", "results"}
    )
    if not given:
        say("needs data_dir=PATH, a folder with cifar10/ and weights/resnet20-12fca82f.th: skipped")
        return
    names = given.get("only", ",".join(CRITERIA)).split(",")
    if "data_dir" not in given or set(names) - set(CRITERIA):
        sys.exit(text)
    quieten()
    folder = Path(given["data_dir"])
    train = int(given.get("train", 8000))
    data = Data(folder / "cifar10", train)
    baseline = published(folder)
    epochs, wanted = int(given.get("epochs", 3)), float(given.get("macs", 2.1))
    kept = ROOT / "results" / "benchmarks" / f"criteria-{epochs}-{wanted:g}-{train}.jsonl"
    file = Path(given.get("results", kept))
    file.parent.mkdir(parents=True, exist_ok=True)
    cases = [(name, seed) for seed in range(int(given.get("seeds", 3))) for name in names]
    done = {(one.criterion, one.seed) for one in outcomes(file, epochs)}
    missing = [case for case in cases if case not in done]
    for name, seed in track(missing, description="fine-tuning", disable=not sys.stderr.isatty()):
        outcome = one_case(name, seed, baseline, data, epochs=epochs, macs=wanted)
        with file.open("a") as lines:
            lines.write(json.dumps(asdict(outcome)) + "\n")
    say(table([one for one in outcomes(file, epochs) if (one.criterion, one.seed) in cases]))


def one_case(
    name: str, seed: int, baseline: CifarResNet, data: Data, *, epochs: int, macs: float
) -> Outcome:
    """Remove, fine-tune, test once."""
    resources = data.resources(seed)
    model, sparsity = at_macs(name, baseline, data, resources, macs)
    score = resources.score(model)
    own = OWN_EPOCHS if name in ("slim", "agp") else 0
    tune(model, data.tuning, epochs=epochs - own, seed=seed, after_step=enforce)
    images = data.test[0][:1]
    return Outcome(
        criterion=name,
        seed=seed,
        epochs=epochs,
        sparsity=sparsity,
        macs_ratio=count_macs(baseline, images) / count_macs(model, images),
        params=sum(p.numel() for p in model.parameters()),
        score=score,
        test=accuracy(model, data.test),
    )


def at_macs(
    name: str,
    baseline: nn.Module,
    data: Data,
    resources: Resources,
    wanted: float,
) -> tuple[nn.Module, float]:
    """The network of the lowest sparsity with `wanted` times fewer multiply-accumulates."""
    images, criterion = data.test[0][:2], CRITERIA[SIZED_BY.get(name, name)]
    most = count_macs(baseline, images[:1]) / wanted
    low, high, best = 0, 63, None  # in steps; `high` fits the budget
    while high - low > 1:
        middle = (low + high) // 2
        model = removed(criterion(middle * STEP), baseline, images, resources)
        if model is not None and count_macs(model, images[:1]) <= most:
            high, best = middle, model
        else:
            low = middle
    if best is None:
        raise SystemExit(f"no sparsity gives {wanted} times fewer multiply-accumulates")
    if name in SIZED_BY:
        best = removed(CRITERIA[name](high * STEP), baseline, images, resources)
        assert best is not None, "its criterion removes something"
    return best, high * STEP


def removed(
    compressor: Compressor, baseline: nn.Module, images: Tensor, resources: Resources
) -> nn.Module | None:
    """What a criterion makes of the network, without the checks; None where it is so little."""
    try:
        decision = compressor.plan(baseline, images, resources)
    except IncompatibleModel:
        return None
    if decision.model is not None:
        return decision.model
    model = copy.deepcopy(baseline)
    perform(model, decision.edits)
    return model


def table(found: list[Outcome]) -> str:
    """Markdown; the best first."""
    lines = [
        "| criterion | MACs | parameters | before fine-tuning | test accuracy | - random |",
        "|---|---|---|---|---|---|",
    ]
    by_name = {one.criterion: [o for o in found if o.criterion == one.criterion] for one in found}
    control = moments(by_name.get(CONTROL, []))
    for name, ones in sorted(by_name.items(), key=lambda item: -moments(item[1])[0]):
        mean, deviation = moments(ones)
        gain = mean - control[0]
        clear = abs(gain) > max(deviation, control[1])
        verdict = (
            "" if name == CONTROL else f"{gain:+.4f}{'' if clear else ', within the deviation'}"
        )
        lines.append(
            f"| {name} | 1/{statistics.mean(o.macs_ratio for o in ones):.2f} "
            f"| {statistics.mean(o.params for o in ones):,.0f} "
            f"| {statistics.mean(o.score for o in ones):.4f} "
            f"| {mean:.4f} ± {deviation:.4f} (n={len(ones)}) | {verdict} |"
        )
    return "\n".join(lines)


def moments(found: list[Outcome]) -> tuple[float, float]:
    """Mean and sample standard deviation of the test accuracy; NaN where there is none."""
    values = [one.test for one in found]
    if not values:
        return float("nan"), float("nan")
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def outcomes(file: Path, epochs: int) -> list[Outcome]:
    """What was done before with as many epochs."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [one for one in (Outcome(**json.loads(line)) for line in lines) if one.epochs == epochs]


if __name__ == "__main__":
    main()
