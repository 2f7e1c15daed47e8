"""Tuning, scoring and testing a CIFAR-10 network on little data, for the benchmarks that train.

Images 0-7999 of data_batch_1 are tuned on, 8000-9999 of it are scored on, the test set is for final
networks. A published baseline has learned all of data_batch_1, so scores on it are optimistic.
"""

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from compressors.resources import Resources  # noqa: E402
from models.small.resnet_cifar import CifarResNet  # noqa: E402
from models.training import fit  # noqa: E402

RECIPE = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "weight_decay": 5e-4,
    "optimizer_options": {"momentum": 0.9, "nesterov": True},
    "scheduler": "onecycle",
    "augmentation": {"shift": 4, "flip": True},
}
"""Fine-tuning."""


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


def published(folder: Path) -> CifarResNet:
    """ResNet-20 with its published weights, in eval mode."""
    return CifarResNet(20, checkpoint=str(folder / "weights" / "resnet20-12fca82f.th")).eval()


def tune(
    model: nn.Module, data: tuple[Tensor, Tensor], *, epochs: int, seed: int, **options: Any
) -> None:
    """Train on shuffled batches, in the order of dimensions that small convolutions prefer."""
    model.to(memory_format=torch.channels_last)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    settings = {**RECIPE, "seed": seed, "trainer": quiet, **options}
    fit(model, Shuffled(data, seed), epochs=epochs, **settings)


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share that is right."""
    return float(hits(model, data).double().mean())


def hits(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    """Which images are classified right, shape [N], bool."""
    model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        said = torch.cat([model(batch).argmax(dim=1) for batch in data[0].split(250)])
    return said == data[1]


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
