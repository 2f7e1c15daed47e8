from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Decision
from compressors.cost import count_macs
from compressors.factorization.low_rank import LowRank
from compressors.pruning.filters import L1Filter
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, history, perform
from models.small.digits import DigitsCNN

IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(**layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    ends = {"mean": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "head": nn.Linear(16, 5)}
    return nn.Sequential(OrderedDict({**layers, **ends})).eval()


def plain() -> nn.Module:
    return network(a=nn.Conv2d(1, 12, 3), act=nn.ReLU(), b=nn.Conv2d(12, 16, 3))


def plan(model: nn.Module, **options: Any) -> Decision:
    return LowRank(**options).plan(model, IMAGES)


def ranks(decision: Decision) -> dict[str, tuple[str, list[int]]]:
    return {n: (s["method"], s["ranks"]) for n, s in decision.edits.replaced.items()}


def test_the_multiplications_of_all_layers_meet_the_budget() -> None:
    model = DigitsCNN()
    before = count_macs(model, IMAGES[:1]) - 48 * 10
    after = DigitsCNN()
    perform(after, plan(model, sparsity=0.4, method="spatial").edits)
    left = (count_macs(after.eval(), IMAGES[:1]) - 48 * 10) / before
    assert 0.55 < left <= 0.6


@pytest.mark.parametrize(("method", "count"), [("svd", 1), ("spatial", 1), ("tucker2", 2)])
def test_a_ratio_counts_the_full_ranks(method: Any, count: int) -> None:
    found = ranks(plan(plain(), rank_ratio=0.26, method=method, op_names=["b"]))
    full = {"svd": [16], "spatial": [36], "tucker2": [12, 16]}[method]
    assert found == {"b": (method, [int(0.26 * rank) for rank in full])}
    assert len(full) == count


def test_without_a_kernel_there_is_one_way() -> None:
    model = network(a=nn.Conv2d(1, 12, 1), b=nn.Conv2d(12, 16, 1))
    found = ranks(plan(model, rank_ratio=0.2, method="tucker2", op_names=["b", "head"]))
    assert found == {"b": ("svd", [2]), "head": ("svd", [1])}


def test_the_head_stays_unless_it_is_named() -> None:
    decision = plan(plain(), sparsity=0.3)
    assert "head" not in decision.edits.replaced
    assert decision.notes[0] == "the classifier head (head) stays as it is; name it to treat it"
    assert [*plan(plain(), energy=0.1, op_names=["head"]).edits.replaced] == ["head"]


def test_layers_have_the_amount_of_their_entry() -> None:
    entries = [{"op_names": ["a", "b"]}, {"op_names": ["b"], "rank_ratio": 0.25}]
    decision = plan(plain(), config_list=entries, energy=0.2, method="svd")
    assert ranks(decision) == {"a": ("svd", [1]), "b": ("svd", [4])}


def test_a_budget_is_one_for_all_layers_that_ask_for_it() -> None:
    model = plain()
    first = ranks(plan(model, sparsity=0.5))
    entries = [{"op_names": ["a"], "sparsity": 0.2}, {"op_names": ["b"], "sparsity": 0.5}]
    alone = ranks(plan(model, config_list=entries))
    assert alone != first
    assert alone["b"] == ranks(plan(model, sparsity=0.5, op_names=["b"]))["b"]


class Apart(nn.Module):
    """A network with a layer that nothing runs through."""

    def __init__(self, used: nn.Module) -> None:
        super().__init__()
        self.used, self.unused = used, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_layers_that_stay_are_named_with_their_reasons() -> None:
    used = network(
        first=nn.Conv2d(1, 16, 3),
        depthwise=nn.Conv2d(16, 16, 3, groups=16),
        zero=nn.Conv2d(16, 16, 1),
        last=nn.Conv2d(16, 16, 1),
    )
    used.zero.weight.data.zero_()
    decision = plan(Apart(used), energy=0.1, exclude=["*first"])
    assert [*decision.edits.replaced] == ["used.last"]
    assert decision.notes[1:-1] == [
        "used.depthwise: left whole, its 16 groups are a factorisation already",
        "used.zero: left whole, its weights are zero",
        "unused: left whole, it takes no part in the forward pass",
    ]
    assert decision.notes[-1].startswith("1 of 1 layers are split (svd), ")


def test_a_broken_network_is_refused() -> None:
    model = plain()
    model.b.weight.data[0, 0] = torch.nan
    with pytest.raises(IncompatibleModel, match="b: weights that are not finite have no ranks"):
        plan(model, sparsity=0.5)


class Reading(nn.Module):
    """A network that asks a layer for what its factors do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(64, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x.view(-1, self.inner.in_features)))


def test_a_network_that_needs_a_layer_whole_says_so() -> None:
    told = r"fails.*has no attribute 'in_features'.*name what it needs whole in compressor\.exclude"
    with pytest.raises(IncompatibleModel, match=told):
        plan(Reading(), energy=0.3)
    assert [*plan(Reading(), energy=0.1, op_names=["head"]).edits.replaced] == ["head"]


def test_shared_weights_stay_shared() -> None:
    model = network(a=nn.Conv2d(1, 16, 3), b=nn.Conv2d(16, 16, 3), c=nn.Conv2d(16, 16, 3))
    model.c.weight = model.b.weight
    decision = plan(model, energy=0.3, method="svd")
    assert [*decision.edits.replaced] == ["a"]
    assert (
        "b, c: left whole, another place of the network has it, or its weights, as well"
        in decision.notes
    )


def test_a_network_in_which_nothing_saves_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match=r"low_rank changes nothing.*a, b: left whole, no"):
        plan(plain(), name="low_rank", energy=1.0)


def test_a_budget_that_no_ranks_meet_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match=r"rank 1 in every layer removes 0\.\d+ of"):
        plan(plain(), sparsity=0.999)


def test_zeros_that_are_filled_are_told() -> None:
    model = plain()
    mask = torch.zeros_like(model.b.weight, dtype=torch.bool)
    mask[0] = True
    perform(model, Edits(masked={"b.weight": mask}))
    told = plan(model, sparsity=0.5).notes
    assert "b: the factors have no zeros where an earlier step made some" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "got none"),
        ({"sparsity": 0.5, "energy": 0.9}, r"got sparsity=0\.5 and energy=0\.9"),
        ({"config_list": [{"energy": 0.9, "rank_ratio": 0.5}], "sparsity": 0.5}, "rank_ratio=0.5"),
        ({"sparsity": 1}, r"in \[0, 1\)"),
        ({"energy": 0}, r"energy is the share .* in \(0, 1\], got 0"),
        ({"rank_ratio": 1.5, "method": "svd"}, "got 1.5"),
        ({"rank_ratio": 0.5}, "give compressor.method=svd, tucker2 or spatial"),
        ({"sparsity": 0.5, "method": "tucker"}, "did you mean 'tucker2'"),
    ],
    ids=str,
)
def test_options_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        LowRank(**options)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        return x + self.b(x)


def test_filters_of_factors_are_removed_with_what_is_tied_to_them() -> None:
    model = network(block=Residual())
    perform(model, plan(model, sparsity=0.3, method="tucker2").edits)
    edits = L1Filter(sparsity=0.5).plan(model, IMAGES).edits
    assert not edits.masked
    perform(model, edits)
    assert model(IMAGES).shape == (2, 5)
    assert model.block.b.last.out_channels == model.block.a.last.out_channels == 8
    assert [len(step.replaced) for step in history(model)] == [2, 0]
