from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressors.base import Decision
from compressors.pruning.observed import (
    ActivationAPoZRank,
    ActivationMeanRank,
    TaylorFirstOrderWeight,
)
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel

Batches = list[tuple[Tensor, Tensor]]


def resources(batches: Batches) -> Resources:
    def given(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        assert count >= sum(len(labels) for _, labels in batches)
        yield from batches

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("only batches are needed")

    return Resources(batches=given, score=refuse, train=refuse)


def pixels(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def weights(layer: nn.Conv2d, *values: float) -> nn.Conv2d:
    layer.weight.data = torch.tensor(values).float().view_as(layer.weight)
    if layer.bias is not None:
        layer.bias.data.zero_()
    return layer


# -- Taylor


def test_taylor_squares_each_batch_and_then_takes_the_mean() -> None:
    w = np.array([[0.5, -1.0], [-1.0, 0.3], [2.0, 1.5]])
    h = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 1.0]])
    head = nn.Linear(3, 2, bias=False)
    head.weight.data = torch.tensor(h).float()
    layers = OrderedDict(
        a=weights(nn.Conv2d(2, 3, 1), *w.flatten()),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
        h=head,
    )
    model = nn.Sequential(layers).requires_grad_(False).eval()
    seen = [np.array([1.0, 0.5]), np.array([-2.0, 1.0])]
    images = [torch.tensor(x).float().view(1, 2, 1, 1) for x in seen]
    batches = [(image, torch.tensor([label])) for label, image in enumerate(images)]

    def gain(x: np.ndarray, label: int) -> np.ndarray:
        logits = h @ w @ x
        residual = np.exp(logits) / np.exp(logits).sum() - np.eye(2)[label]
        return ((np.outer(h.T @ residual, x) * w) ** 2).sum(axis=1)

    expected = (gain(seen[0], 0) + gain(seen[1], 1)) / 2
    pruner = TaylorFirstOrderWeight(sparsity=0.34, statistics_batches=2)
    task = pruner._task(model, images[0], resources(batches))
    assert pruner.ranker(task)("a").tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    least = int(expected.argmin())
    edits = pruner.plan(model, images[0], resources(batches)).edits
    assert edits.removed["a"] == {"out": [least]}
    assert all(p.grad is None for p in task.model.parameters())


class WithSpare(nn.Module):
    """One layer is there and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.spare, self.h = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.a(x).relu().mean((2, 3)))


def test_a_layer_that_is_not_used_is_named_and_left() -> None:
    batches = [(torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))]
    decision = TaylorFirstOrderWeight(sparsity=0.5).plan(
        WithSpare(), torch.rand(1, 1, 2, 2), resources(batches)
    )
    assert set(decision.edits.removed) == {"a", "h"}
    assert decision.notes[-1] == "spare: left whole (it takes no part in the logits)"


def test_more_batches_than_there_are_is_an_error() -> None:
    batches = [(pixels(1.0), torch.tensor([0]))]
    pruner = TaylorFirstOrderWeight(sparsity=0.5, statistics_batches=2)
    with pytest.raises(ConfigError, match="statistics_batches=2, but the tuning data has 1"):
        pruner.plan(WithSpare(), torch.rand(1, 1, 2, 2), resources(batches))


@pytest.mark.parametrize("value", [0, 1.0, True])
def test_statistics_are_of_a_number_of_batches(value: Any) -> None:
    with pytest.raises(ConfigError, match="statistics_batches is at least 1"):
        TaylorFirstOrderWeight(sparsity=0.5, statistics_batches=value)


# -- activations


class Net(nn.Module):
    """Three filters, a norm that does nothing, and an activation given as any callable."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.a = weights(nn.Conv2d(1, 3, 1), 1.0, -8.0, 0.1)
        self.n, self.h = nn.BatchNorm2d(3, eps=1e-12), nn.Linear(3, 2)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.act(self.n(self.a(x))).mean((2, 3)))


STEPS = [(pixels(-1.0, 1.0), torch.tensor([0])), (pixels(1.0, 1.0), torch.tensor([0]))]
"""Over both batches 3/4, 1/4, 3/4 of the outputs are positive, and their means 0.75, 2, 0.075."""


def plan(kind: Any, model: nn.Module, batches: Batches = STEPS, **options: Any) -> Decision:
    given = {"sparsity": 0.34, "statistics_batches": len(batches), **options}
    images = batches[0][0]
    return kind(**given).plan(model.eval(), images, resources(batches))


def test_the_filter_that_is_zero_most_often_goes() -> None:
    assert plan(ActivationAPoZRank, Net(nn.ReLU())).edits.removed["a"] == {"out": [1]}


def test_the_filter_of_least_mean_goes() -> None:
    assert plan(ActivationMeanRank, Net(nn.ReLU())).edits.removed["a"] == {"out": [2]}


SHIFTED = nn.BatchNorm2d(3).eval()
nn.init.ones_(SHIFTED.bias)

FORMS = {
    "inplace": nn.ReLU(inplace=True),
    "functional": F.relu,
    "functional_inplace": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "method": lambda x: x.relu(),
    "method_inplace": lambda x: x.relu_(),
    "inplace_before_another": nn.Sequential(nn.ReLU(inplace=True), SHIFTED, nn.ReLU()),
    "after_dropout": nn.Sequential(nn.Dropout(), nn.ReLU()),
}


@pytest.mark.parametrize("act", FORMS.values(), ids=FORMS)
def test_statistics_are_taken_behind_the_activation_however_it_is_written(act: Any) -> None:
    pruner = ActivationMeanRank(sparsity=0.34, statistics_batches=2)
    task = pruner._task(Net(act), STEPS[0][0], resources(STEPS))
    assert pruner.ranker(task)("a").tolist() == pytest.approx([0.75, 2, 0.075])
    share = ActivationAPoZRank(sparsity=0.34, statistics_batches=2).ranker(task)("a")
    assert share.tolist() == [0.75, 0.25, 0.75]


@pytest.mark.parametrize(
    "act", [nn.ReLU6(), F.relu6, nn.Hardtanh(0, 6)], ids=["ReLU6", "relu6", "Hardtanh"]
)
def test_a_relu6_cuts_at_six(act: Any) -> None:
    pruner = ActivationMeanRank(sparsity=0.34, statistics_batches=2, activation="relu6")
    task = pruner._task(Net(act), STEPS[0][0], resources(STEPS))
    assert pruner.ranker(task)("a").tolist() == pytest.approx([0.75, 1.5, 0.075])


@pytest.mark.parametrize("act", [nn.GELU(), nn.ReLU6(), nn.Hardtanh()], ids=repr)
def test_another_activation_is_none(act: nn.Module) -> None:
    with pytest.raises(IncompatibleModel, match=r"changes nothing\..* a: left whole \(no relu is"):
        plan(ActivationMeanRank, Net(act))


def test_a_clip_elsewhere_is_no_relu6() -> None:
    with pytest.raises(IncompatibleModel, match="no relu6 is behind it"):
        plan(ActivationMeanRank, Net(nn.Hardtanh(0, 1)), activation="relu6")


class Residual(nn.Module):
    """The last convolution of a block is added before an activation follows, here in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = (
            weights(nn.Conv2d(1, 2, 1), 2.0, 1.0),
            weights(nn.Conv2d(2, 2, 1), 1.0, 0.0, 0.0, 3.0),
            nn.Conv2d(2, 2, 1),
        )
        self.h = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        y = self.b(F.relu(self.a(x)))
        y += x
        return self.h(y.relu().mean((2, 3)))


def test_a_layer_without_its_own_activation_is_named_and_stays_with_its_tie() -> None:
    decision = plan(ActivationMeanRank, Residual(), sparsity=0.5)
    assert decision.edits.removed == {"a": {"out": [0]}, "b": {"in": [0]}}
    assert decision.notes == [
        "b: left whole (no relu is behind it)",
        "stem: left whole, tied to b (no relu is behind it)",
    ]


def test_a_linear_layer_has_its_filters_last() -> None:
    linear = nn.Linear(1, 2)
    linear.weight.data, linear.bias.data = torch.tensor([[3.0], [1.0]]), torch.zeros(2)
    model = nn.Sequential(OrderedDict(f=nn.Flatten(2), l=linear, r=nn.ReLU(), g=nn.Flatten()))
    model.add_module("h", nn.Linear(2, 2))
    batches = [(torch.ones(2, 1, 1, 1), torch.tensor([0, 1]))]
    decision = plan(ActivationMeanRank, model, batches, sparsity=0.5, op_names=["l"])
    assert decision.edits.removed["l"] == {"out": [1]}


def test_hooks_are_taken_off_again_after_an_error() -> None:
    model = Net(nn.ReLU())
    pruner = ActivationMeanRank(sparsity=0.34)
    task = pruner._task(model, STEPS[0][0], resources([(torch.rand(1, 5, 1, 1), torch.ones(1))]))
    with pytest.raises(RuntimeError):
        pruner.ranker(task)
    assert not task.model.a._forward_hooks


def test_an_unknown_activation_is_an_error() -> None:
    with pytest.raises(ConfigError, match="activation is relu or relu6, got 'gelu'"):
        ActivationMeanRank(sparsity=0.5, activation="gelu")
