"""Sharpness of a softmax over a plane whose loss is known in closed form."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from core.names import Split
from core.preprocessing import Preprocessing
from datamodules.dummy import Dummy
from measurements.properties.sharpness import Sharpness
from models.base_model import ClassifierModule
from recording.loop import Batch

X = (3.0, 4.0)  # of length 5


class Plane(ClassifierModule):
    """Two logits that are linear in two pixels, with weights of zero."""

    def load_backbone(self) -> nn.Module:
        layer = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(nn.Flatten(), layer)

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(1, 2), mean=(0.0,), std=(1.0,))


class Splits(Dummy):
    held: tuple[Split, ...] = ("train", "val", "test")

    @property
    def splits(self) -> tuple[Split, ...]:
        return self.held


class Given:
    """Gives the same image under both labels; notes which split it was asked for."""

    def __init__(self, *held: Split) -> None:
        self.data = Splits(num_classes=2)
        self.data.held = held
        self.asked: list[tuple[str, int]] = []

    def datamodule(self, name: str, model: ClassifierModule) -> Splits:
        return self.data

    def manifest(self, name: str, split: str, model: ClassifierModule) -> str:
        return f"{name} {split}"

    def images(self, model: Any, name: str, split: str, *, samples: int) -> Iterator[Batch]:
        self.asked.append((split, samples))
        for label in (0, 1):
            image = torch.tensor(X).view(1, 1, 1, 2)
            yield Batch(images=image, labels=torch.tensor([label]), ids=torch.tensor([label]))


def sharpness(model: ClassifierModule, given: Given, **options: Any) -> Sharpness:
    found = Sharpness(["toy"], model, OmegaConf.create({}), **options)
    found.recorder = given  # type: ignore[assignment]
    return found


def test_loss_of_a_plane_worked_by_hand() -> None:
    # at W = 0: H = 1/4 [[1, -1], [-1, 1]] x X X', |X| = 5; the loss is log(2 cosh(d / 2)) and a
    # move of length .1 makes d at most .1 sqrt(2) 5
    given = Given("train", "test")
    measurement = sharpness(Plane(), given, scale="absolute", radius=0.1, steps=30, draws=200)
    found = measurement.measure()
    assert found["toy_train_hessian_largest"] == pytest.approx(25 / 2, rel=1e-3)
    error = found["toy_train_hessian_trace_error"]
    assert found["toy_train_hessian_trace"] == pytest.approx(25 / 2, abs=4 * error)
    trace = found["toy_train_hessian_trace"]
    half = 1.971957 * float(error)  # Student's t, 199 degrees of freedom
    assert (trace.low, trace.high) == pytest.approx((trace - half, trace + half))
    assert found["toy_train_sharpness"].low is None
    rise = math.log(math.cosh(0.1 * math.sqrt(2) * 5 / 2))
    assert found["toy_train_sharpness"] == pytest.approx(rise, rel=1e-3)
    assert found["toy_train_sharpness"].n == 2
    assert found["toy_train_hessian_trace_error"].better == ""
    assert given.asked == [("train", 32)]


def test_without_a_train_split_the_test_split_is_taken_and_the_definition_says_so() -> None:
    measurement = sharpness(Plane(), Given("test"), draws=2)
    assert all(key.startswith("toy_test_") for key in measurement.measure())
    assert measurement.definition()["batch"] == {"toy": ["test", "toy test"]}


def test_filters_are_the_default_unit_and_zero_filters_do_not_move() -> None:
    found = sharpness(Plane(), Given("train"), draws=2).measure()
    assert set(map(float, found.values())) == {0.0}


class Noisy(Plane):
    """With BatchNorm and Dropout, which only eval mode holds still."""

    def load_backbone(self) -> nn.Module:
        layers = nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)
        return nn.Sequential(nn.Flatten(), *layers)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_model_is_left_bitwise_as_it_was_and_twice_gives_the_same() -> None:
    model = Noisy(num_classes=2).train()
    before = state(model)
    first, second = (sharpness(model, Given("train"), draws=3).measure() for _ in range(2))
    assert first == second
    assert first["toy_train_sharpness"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(model).items())
    assert all(module.training for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
