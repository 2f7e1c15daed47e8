"""A landscape that is known: two convolutions, whose widths tell costs and score."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressors.base import Task
from compressors.pruning.filters import L1Filter
from compressors.resources import Resources
from compressors.search.oracle import Oracle

IMAGES = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))


class Landscape:
    """Ten filters in `a` and ten in `b`; widths i and j cost 81 i + 9 i j + 3 j MACs.

    Args:
        height: Function i, j -> score.
        gain: Of the score by an epoch of training.
        cramped: What happens below ten filters altogether: nothing, `fails`, or `differs`: the
            network runs, but is not the one with these filters set to zero.
    """

    def __init__(
        self, height: Callable[[int, int], float], *, gain: float = 0.0, cramped: str = ""
    ) -> None:
        self.height, self.gain = height, gain
        self.scored: list[tuple[int, int]] = []
        self.trained: list[tuple[int, int]] = []
        self.first_epochs: list[int] = []
        torch.manual_seed(0)
        layers = OrderedDict(
            a=nn.Conv2d(1, 10, 3), b=nn.Conv2d(10, 10, 3), f=nn.Flatten(), h=nn.Linear(10, 3)
        )
        self.model = (Cramped(layers, how=cramped) if cramped else nn.Sequential(layers)).eval()

    def score(self, model: nn.Module) -> float:
        self.scored.append(widths(model))
        return self.height(*self.scored[-1]) + self.gain * epochs_of(self.model, model)

    def train(self, model: nn.Module, *, epochs: int, first_epoch: int = 0, **_: object) -> None:
        self.trained.append(widths(model))
        self.first_epochs.append(first_epoch)
        with torch.no_grad():
            model.h.bias.add_(epochs)

    def resources(self, seed: int = 0) -> Resources:
        labels = torch.tensor([0, 1])
        return Resources(
            batches=lambda n: iter([(IMAGES[:n], labels[:n])]),
            score=self.score,
            train=self.train,
            seed=seed,
            said=("scores are made up",),
        )

    def task(self) -> Task:
        return L1Filter(sparsity=0.5)._task(self.model, IMAGES, self.resources())

    def oracle(self, **options: Any) -> Oracle:
        return Oracle(self.task(), L1Filter(sparsity=0.5), **options)


class Cramped(nn.Sequential):
    """Needs ten filters in `a` and `b` together."""

    def __init__(self, layers: OrderedDict[str, nn.Module], *, how: str) -> None:
        super().__init__(layers)
        self.how = how

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        narrow = sum(widths(self)) < 10
        if narrow and self.how == "fails":
            raise RuntimeError("too few filters")
        return super().forward(images) + narrow


def epochs_of(before: nn.Module, after: nn.Module) -> float:
    """How long the made-up training went: it adds its epochs to the bias of the head."""
    return round(float((after.h.bias - before.h.bias).detach().mean()), 3)


def widths(model: nn.Module) -> tuple[int, int]:
    return model.a.out_channels, model.b.out_channels


@pytest.fixture
def wide_b() -> Landscape:
    """The more of `b` the better; of equal ones the one with less of `a`."""
    return Landscape(lambda i, j: j / 10 - i / 1000)
