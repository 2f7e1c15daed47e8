from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Decision
from compressors.pruning.slim import Slim
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from models.edits import history

IMAGES = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))


def norm(*gammas: float) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(len(gammas))
    made.weight.data = torch.tensor(gammas)
    return made


def chain(first: nn.Module, second: nn.Module) -> nn.Module:
    layers = OrderedDict(
        a=nn.Conv2d(1, 3, 3), m=first, b=nn.Conv2d(3, 3, 3), n=second, f=nn.Flatten()
    )
    return nn.Sequential(layers | {"h": nn.Linear(3, 2)}).eval()


def untrained(*_: Any, **__: Any) -> None:
    raise AssertionError("no training was asked for")


def plan(model: nn.Module, train: Any = untrained, **options: Any) -> Decision:
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=train)
    return Slim(**{"epochs": 0, **options}).plan(model, IMAGES, given)


def test_one_threshold_holds_for_all_layers() -> None:
    removed = plan(chain(norm(0.1, -0.5, 0.9), norm(0.2, 0.3, -0.05)), sparsity=0.5).edits.removed
    assert removed == {  # three of six: 0.05, 0.1, 0.2
        "a": {"out": [0]},
        "m": {"out": [0]},
        "b": {"in": [0], "out": [0, 2]},
        "n": {"out": [0, 2]},
        "h": {"in": [0, 2]},
    }


def test_it_is_told_what_the_channels_are_in_parameters() -> None:
    # two of m and one of n go: of a to h stay 10 of 30, 2 of 6, 20 of 84, 4 of 6, 6 of 8
    assert plan(chain(norm(0.1, 0.2, 0.9), norm(0.3, 0.8, 0.9)), sparsity=0.5).notes == [
        "3 of 6 channels are below one threshold for all layers; that takes 68.7% of all parameters"
    ]


def test_one_channel_stays_in_each_layer() -> None:
    removed = plan(chain(norm(0.6, 0.5, 0.9), norm(0.03, 0.02, 0.01)), sparsity=0.5).edits.removed
    assert removed["n"] == {"out": [1, 2]}
    assert removed["m"] == {"out": [1]}


class Tied(nn.Module):
    """Two convolutions, each with its norm, that are added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m = nn.Conv2d(1, 3, 3), norm(0.1, 0.6, 0.9)
        self.b, self.n = nn.Conv2d(1, 3, 3), norm(0.8, -0.2, 0.9)
        self.h = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.h((self.m(self.a(x)) + self.n(self.b(x))).relu().mean((2, 3)))


def test_channels_that_are_added_are_ranked_by_their_mean_and_count_each() -> None:
    removed = plan(Tied(), sparsity=0.34).edits.removed  # 0.45, 0.4, 0.9; two of six
    assert removed["a"] == removed["b"] == {"out": [1]}
    with pytest.raises(IncompatibleModel, match=r"0\.33 of 6 channels rounds to nothing"):
        plan(Tied(), sparsity=0.33)  # one of six, and they go in pairs


class TiedThenOne(Tied):
    """A third convolution with its norm behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.o, self.h = nn.Conv2d(3, 3, 1), norm(0.42, 0.97, 0.99), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = (self.m(self.a(x)) + self.n(self.b(x))).relu()
        return self.h(self.o(self.c(y)).mean((2, 3)))


def test_the_mean_of_a_pair_is_ranked_among_single_scales() -> None:
    removed = plan(TiedThenOne(), sparsity=0.25).edits.removed  # two of nine: 0.4 twice
    assert removed["a"] == {"out": [1]}
    assert "o" not in removed


def test_what_the_budget_does_not_cover_is_the_threshold() -> None:
    removed = plan(TiedThenOne(), sparsity=0.45).edits.removed  # four of nine: 0.4 twice, 0.42
    assert removed["a"] == {"out": [1]}
    assert removed["o"] == {"out": [0]}  # the next are 0.45 twice, then 0.9: 0.97 stays


def test_a_norm_that_was_not_selected_goes_along_and_is_named() -> None:
    decision = plan(Tied(), sparsity=0.34, op_names=["m"])
    assert decision.edits.removed["b"] == {"out": [0]}
    assert decision.notes[:-1] == ["n: pruned too, tied to m"]


def test_a_tie_with_an_excluded_norm_stays_whole() -> None:
    with pytest.raises(IncompatibleModel, match="m: left whole, tied to n, which is excluded"):
        plan(Tied(), sparsity=0.5, exclude=["n"])


class Mixing(nn.Module):
    """A norm behind an operation on all channels, which no graph follows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m, self.h = nn.Conv2d(1, 4, 1), norm(0.1, 0.2, 0.3, 0.4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.m(self.a(x).softmax(1)).mean((2, 3)))


def test_where_channels_cannot_be_removed_they_are_zeroed() -> None:
    decision = plan(Mixing(), sparsity=0.5)
    assert not decision.edits.removed
    assert {name: mask.tolist() for name, mask in decision.edits.masked.items()} == {
        "m.weight": [True, True, False, False],
        "m.bias": [True, True, False, False],
    }
    assert "size and latency stay" in decision.notes[0]
    assert decision.notes[-1].endswith("takes 15.4% of all parameters")  # 4 of 8 + 8 + 10


class Halves(nn.Module):
    """One half passes, the other goes through a layer; then both are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.m = nn.Conv2d(1, 4, 1), norm(0.1, 0.7, 0.2, 0.8)
        self.b, self.n = nn.Conv2d(2, 2, 1), norm(0.3, 0.9)
        self.h = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        passing, other = self.m(self.a(x)).chunk(2, dim=1)
        x = torch.stack([passing, self.n(self.b(other))], dim=2).flatten(1, 2)
        return self.h(x.mean((2, 3)))


def test_shuffled_channels_go_where_the_same_go_in_both_halves() -> None:
    decision = plan(Halves(), sparsity=0.5)  # 0.2 thrice against 0.8 thrice; three of six
    assert decision.edits.removed == {
        "a": {"out": [0, 2]}, "m": {"out": [0, 2]}, "b": {"in": [0], "out": [0]},
        "n": {"out": [0]}, "h": {"in": [0, 1]},
    }  # fmt: skip


def test_a_norm_without_scales_is_named_and_left() -> None:
    decision = plan(chain(norm(0.1, 0.2, 0.3), nn.BatchNorm2d(3, affine=False)), sparsity=0.34)
    assert decision.edits.removed["m"] == {"out": [0]}
    assert decision.notes[:-1] == ["n: left whole, without scales"]


def test_training_shrinks_the_scales_before_they_are_ranked() -> None:
    asked: dict[str, Any] = {}

    def train(model: nn.Module, *, epochs: int, penalty: Any) -> None:
        asked.update(epochs=epochs, penalty=penalty(model).item())
        model.m.weight.data[2] = 0.01

    before = chain(norm(0.1, -0.5, 0.9), norm(0.2, 0.3, 1.0))
    decision = plan(before, train, epochs=7, l1=0.1, sparsity=0.17)
    assert asked == {"epochs": 7, "penalty": pytest.approx(0.1 * 3.0)}
    (step,) = history(decision.model)
    assert step.removed["m"] == {"out": [2]}
    assert decision.model.m.weight.tolist() == pytest.approx([0.1, -0.5])
    assert before.m.num_features == 3


@pytest.mark.parametrize(
    ("model", "sparsity"),
    [
        (chain(norm(0.1, 0.5, 0.9), norm(0.2, 0.3, 1.0)), 0.16),
        (chain(norm(0.1, 0.5, 0.9), norm(0.2, 0.3, 1.0)), 0.0),
        (Tied(), 0.33),
    ],
    ids=["few", "none", "one of a pair"],
)
def test_so_little_that_it_rounds_to_nothing_is_told_before_any_training(
    model: nn.Module, sparsity: float
) -> None:
    with pytest.raises(IncompatibleModel, match=r"changes nothing\. .* of 6 channels rounds to"):
        plan(model, epochs=1, sparsity=sparsity)


def test_scales_decide_after_the_training_whether_the_first_channel_fits() -> None:
    def train(model: nn.Module, **_: Any) -> None:
        model.o.weight.data[1] = 0.01

    decision = plan(TiedThenOne(), train, epochs=1, sparsity=0.12)  # one of nine, not of a pair
    assert decision.model is not None
    assert decision.model.o.num_features == 2


def test_frozen_scales_cannot_be_trained() -> None:
    model = chain(norm(0.1, 0.5, 0.9), norm(0.2, 0.3, 1.0))
    model.m.requires_grad_(False)
    with pytest.raises(ConfigError, match=r"m: frozen, .* compressor\.epochs=0"):
        plan(model, epochs=1, sparsity=0.5)


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match="this model has no BatchNorm2d; take another"):
        plan(chain(nn.ReLU(), nn.ReLU()), sparsity=0.5)


def test_there_is_one_sparsity() -> None:
    entries = [{"sparsity": 0.5, "op_names": ["m"]}, {"sparsity": 0.3, "op_names": ["n"]}]
    with pytest.raises(ConfigError, match=r"one sparsity for the whole network, got \[0.3, 0.5\]"):
        plan(Tied(), config_list=entries)


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"epochs": 1.5}, {"l1": -1}], ids=str)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"compressor\."):
        Slim(sparsity=0.5, **wrong)
