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
    epochs=6         of training, all in all
    macs=2.1         times fewer multiply-accumulates
    train=8000       images to tune on, from the first
    results=FILE     JSON lines; what stands there is not done again; default
                     results/benchmarks/criteria-<epochs>-<macs>-<train>.jsonl
"""

import copy
import json
import logging
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from compressors.base import Compressor  # noqa: E402
from compressors.cost import count_macs  # noqa: E402
from compressors.pruning.agp import AGP  # noqa: E402
from compressors.pruning.bases import BASES  # noqa: E402
from compressors.pruning.slim import Slim  # noqa: E402
from compressors.resources import Resources  # noqa: E402
from core.errors import IncompatibleModel  # noqa: E402
from models.edits import enforce, perform  # noqa: E402
from models.small.resnet_cifar import CifarResNet  # noqa: E402
from models.training import fit  # noqa: E402

OWN_EPOCHS = 2
"""Epochs that a criterion trains by itself."""

STEP = 1 / 64
"""Of sparsity, while the strength for the wanted multiply-accumulates is looked for."""

CONTROL = "random_filter"

RECIPE = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "optimizer_options": {"momentum": 0.9, "nesterov": True},
    "scheduler": "onecycle",
    "augmentation": {"shift": 4, "flip": True},
}
"""Fine-tuning."""


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


class Data:
    """Images in [0, 1] and labels: what to tune on, what to score on, what to test on."""

    def __init__(self, folder: Path, train: int) -> None:
        images, labels = read(folder / "data_batch_1.bin")
        self.tuning = images[:train], labels[:train]
        self.held_out = images[8000:], labels[8000:]
        self.test = read(folder / "test_batch.bin")

    def resources(self, seed: int) -> Resources:
        """What a criterion may use; the same training is carried out once."""
        trained: dict[str, Any] = {}

        def train(model: nn.Module, *, epochs: int, **options: Any) -> None:
            key = str((epochs, sorted(options), [p.shape for p in model.parameters()]))
            if key not in trained or "after_step" in options:
                tune(model, self.tuning, epochs=epochs, seed=seed, **options)
                trained[key] = copy.deepcopy(model.state_dict())
            model.load_state_dict(trained[key])

        return Resources(
            batches=lambda count: split(self.tuning, seed, most=count),
            score=lambda model: accuracy(model, self.held_out),
            train=train,
            seed=seed,
        )


class Shuffled:
    """Batches of 128, in another order each time they are gone through."""

    def __init__(self, data: tuple[Tensor, Tensor], seed: int) -> None:
        self.data, self.seed, self.passes = data, seed, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        yield from split(self.data, 1000 * self.seed + self.passes)

    def __len__(self) -> int:
        return -(-len(self.data[0]) // 128)


def main() -> None:
    """Fine-tune what is missing, then print the table."""
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    known = {"data_dir", "only", "seeds", "epochs", "macs", "train", "results"}
    if not given:
        say("needs data_dir=PATH, a folder with cifar10/ and weights/resnet20-12fca82f.th: skipped")
        return
    names = given.get("only", ",".join(CRITERIA)).split(",")
    if set(given) - known or "data_dir" not in given or set(names) - set(CRITERIA):
        sys.exit(f"{__doc__}\n    criteria: {', '.join(CRITERIA)}")
    quieten()
    folder = Path(given["data_dir"])
    train = int(given.get("train", 8000))
    data = Data(folder / "cifar10", train)
    baseline = CifarResNet(20, checkpoint=str(folder / "weights" / "resnet20-12fca82f.th")).eval()
    epochs, wanted = int(given.get("epochs", 6)), float(given.get("macs", 2.1))
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
    model, sparsity = at_macs(CRITERIA[name], baseline, data, resources, macs)
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
    criterion: Callable[[float], Compressor],
    baseline: nn.Module,
    data: Data,
    resources: Resources,
    wanted: float,
) -> tuple[nn.Module, float]:
    """The network of the lowest sparsity with `wanted` times fewer multiply-accumulates."""
    images = data.test[0][:2]
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


def tune(
    model: nn.Module, data: tuple[Tensor, Tensor], *, epochs: int, seed: int, **options: Any
) -> None:
    """Train on shuffled batches."""
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    settings = {**RECIPE, "seed": seed, "trainer": quiet, **options}
    fit(model, Shuffled(data, seed), epochs=epochs, **settings)


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


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share that is right."""
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(batch).argmax(dim=1) for batch in data[0].split(250)])
    return float((said == data[1]).double().mean())


def split(
    data: tuple[Tensor, Tensor], seed: int, most: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of 128 in a random order."""
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(seed))[:most]
    for ids in order.split(128):
        yield data[0][ids], data[1][ids]


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of a file of CIFAR-10's binary version."""
    rows = np.fromfile(path, dtype=np.uint8).reshape(-1, 3073)
    images = torch.from_numpy(rows[:, 1:]).view(-1, 3, 32, 32).float() / 255
    return images, torch.from_numpy(rows[:, 0].astype(np.int64))


def quieten() -> None:
    """Neither advice of Lightning nor notes of the compressors."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
