import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.pruning.level import Level, smallest
from core.errors import ConfigError, IncompatibleModel
from models.edits import enforce, perform

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    """Two layers with weights 1..8 and 10..160, before a head of 3 logits."""
    model = nn.Sequential(
        OrderedDict(
            a=nn.Conv2d(1, 2, 2), r=nn.ReLU(), f=nn.Flatten(), b=nn.Linear(18, 2), h=nn.Linear(2, 3)
        )
    )
    model.a.weight.data = torch.arange(1.0, 9).view(2, 1, 2, 2) * torch.tensor([1.0, -1]).view(
        2, 1, 1, 1
    )
    model.b.weight.data = torch.arange(10.0, 370, 10).view(2, 18) / 100
    return model


def pruned(model: nn.Module, **options: Any) -> nn.Module:
    """The model after the edits that were planned for it."""
    after = copy.deepcopy(model)
    perform(after, Level(**options).plan(model, IMAGES).edits)
    return after


def zeros(model: nn.Module, name: str) -> int:
    return int((model.get_parameter(name) == 0).sum())


def test_exactly_as_many_go_even_among_equals() -> None:
    assert smallest(torch.ones(7), count=3).tolist() == [True] * 3 + [False] * 4
    assert int(smallest(torch.zeros(3, 3), count=5).sum()) == 5


def test_half_of_each_layer_goes_the_smallest_first() -> None:
    edits = Level(sparsity=0.5).plan(net(), IMAGES).edits
    model = net()
    perform(model, edits)
    assert model.a.weight.flatten().tolist() == [0, 0, 0, 0, -5, -6, -7, -8]
    assert zeros(model, "b.weight") == 18
    assert set(edits.masked) == {"a.weight", "b.weight"}


def test_among_all_layers_the_smallest_go_wherever_they_are() -> None:
    # 44 weights: 0.1 .. 3.6 in b, 1 .. 8 in a; the 22 smallest are 0.1 .. 2.0 and 1, 2
    model = pruned(net(), sparsity=0.5, scope="global")
    assert (zeros(model, "a.weight"), zeros(model, "b.weight")) == (2, 20)


def test_layers_of_other_sparsity_are_ranked_apart() -> None:
    entries = [{"sparsity": 0.5}, {"sparsity": 0.25, "op_names": ["a"]}]
    model = pruned(net(), config_list=entries, scope="global")
    assert (zeros(model, "a.weight"), zeros(model, "b.weight")) == (2, 18)


def test_the_number_is_floor_of_the_product_as_written() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 25, bias=False), nn.Linear(25, 4))
    after = pruned(model, sparsity=0.29, op_names=["2"])
    assert zeros(after, "2.weight") == 29  # 0.29 * 100 = 28.999999999999996


def test_nothing_but_weights_is_touched_and_they_stay_zero() -> None:
    before = net()
    model = pruned(before, sparsity=0.5)
    assert torch.equal(model.a.bias, before.a.bias)
    model.a.weight.data += 3
    enforce(model)
    assert zeros(model, "a.weight") == 4


def test_more_sparsity_is_a_superset() -> None:
    less, more = (Level(sparsity=s).plan(net(), IMAGES).edits.masked for s in (0.25, 0.75))
    assert all(bool((more[name] | ~less[name]).all()) for name in less)


def test_the_report_says_what_was_reached_and_what_not_to_expect() -> None:
    report = Level(sparsity=0.5).compress(net(), IMAGES).report
    achieved = report.achieved
    assert (achieved["params_before"], achieved["params_after"]) == (57, 57)
    assert achieved["nonzero_params_after"] == 57 - 22
    assert achieved["sparsity"] == pytest.approx(22 / 57)
    assert achieved["removed"] == 0
    assert "the classifier head (h) stays as it is; name it to treat it" in report.notes
    assert any("dense size and latency stay" in note for note in report.notes)
    assert report.requested == {
        "compressor": "Level",
        "entries": [{"sparsity": 0.5}],
        "scope": "layer",
    }


def test_a_layer_too_small_for_the_sparsity_is_named_and_the_others_go_on() -> None:
    decision = Level(sparsity=0.1).plan(net(), IMAGES)
    assert "a: 0.1 of 8 weights rounds to nothing" in decision.notes
    assert {n: int(m.sum()) for n, m in decision.edits.masked.items()} == {"b.weight": 3}


def test_a_recipe_that_rounds_to_nothing_is_an_error() -> None:
    told = r"changes nothing\. a: 0\.01 of 8 weights rounds to nothing; b: 0\.01 of .* nothing$"
    with pytest.raises(IncompatibleModel, match=told):
        Level(sparsity=0.01, op_names=["a", "b"]).compress(net(), IMAGES)


def test_a_second_time_changes_nothing_and_says_so() -> None:
    once = pruned(net(), sparsity=0.5)
    with pytest.raises(IncompatibleModel, match="every weight that was chosen is zero already"):
        Level(sparsity=0.5).compress(once, IMAGES)


def test_the_head_goes_where_it_is_named() -> None:
    assert zeros(pruned(net(), sparsity=0.5, op_names=["h"]), "h.weight") == 3


def test_frozen_weights_are_pruned_and_stay_frozen() -> None:
    result = Level(sparsity=0.5).compress(net().requires_grad_(False), IMAGES)
    assert zeros(result.model, "a.weight") == 4
    assert not result.model.a.weight.requires_grad
    assert "every parameter is frozen, so backward was not checked" in result.report.notes


def test_an_embedding_and_a_slope_are_treated_too() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.slope, self.head = nn.Embedding(4, 6), nn.PReLU(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            words = self.words((x.flatten(1) * 3.99).long()).mean(1)
            return self.head(self.slope(words))

    model = Words()
    model.slope.weight.data.copy_(torch.arange(6.0) + 1)
    after = pruned(model, sparsity=0.5)
    assert zeros(after, "words.weight") == 12
    assert after.slope.weight.tolist() == [0, 0, 0, 4, 5, 6]


def test_an_unknown_scope_is_refused_before_any_model() -> None:
    with pytest.raises(ConfigError, match=r"compressor\.scope is one of layer, global, got 'all'"):
        Level(sparsity=0.5, scope="all")


def test_the_input_is_bit_identical_afterwards() -> None:
    model = net().train()
    model.a.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    Level(sparsity=0.5).compress(model, IMAGES)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.training
    assert not model.a.weight.requires_grad
