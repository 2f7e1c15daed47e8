import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compressors import selfcheck
from compressors.base import Decision
from compressors.pruning import filters
from compressors.pruning.filters import L1Filter
from compressors.pruning.ties import Ties, find_ties
from compressors.selfcheck import Comparison, SelfCheckError, State
from core.errors import ConfigError, IncompatibleModel
from models.edits import perform
from models.small.digits import DigitsCNN
from models.small.resnet_cifar import CifarResNet

IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def plan(model: nn.Module, images: Tensor = IMAGES, **options: Any) -> Decision:
    return L1Filter(**options).plan(model, images)


def pruned(model: nn.Module, images: Tensor = IMAGES, **options: Any) -> nn.Module:
    after = copy.deepcopy(model)
    perform(after, plan(model, images, **options).edits)
    return after


def norms(layer: nn.Module, *values: float) -> nn.Module:
    """Give each filter of a layer a sum of magnitudes."""
    size = layer.weight[0].numel()
    for row, value in zip(layer.weight.data, values, strict=True):
        row.fill_(-value / size)
    return layer


def chain(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def plain() -> nn.Module:
    return chain(
        a=norms(nn.Conv2d(1, 5, 3), 5, 1, 3, 2, 4),
        n=nn.BatchNorm2d(5),
        b=norms(nn.Conv2d(5, 4, 3), 1, 1, 1, 1),
        f=nn.Flatten(),
        h=nn.Linear(16, 3),
    )


class Tied(nn.Module):
    """Two convolutions that are added, a third behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.a = norms(nn.Conv2d(1, 3, 3), 1, 5, 9)
        self.b = norms(nn.Conv2d(1, 3, 3), 9, 1, 1)
        self.c = norms(nn.Conv2d(3, 2, 3), 1, 2)
        self.h = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.h(self.c(torch.relu(self.a(x) + self.b(x))).mean((2, 3)))


def test_the_filters_of_least_magnitude_go_with_all_that_hangs_on_them() -> None:
    removed = plan(plain(), sparsity=0.5).edits.removed
    assert removed == {
        "a": {"out": [1, 3]},  # floor(2.5) of 5
        "n": {"out": [1, 3]},
        "b": {"in": [1, 3], "out": [0, 1]},  # equals: the earlier ones
        "h": {"in": [0, 1, 2, 3, 4, 5, 6, 7]},  # 4 pixels a channel
    }


@pytest.mark.parametrize(("sparsity", "left"), [(0.2, 4), (0.39, 4), (0.4, 3), (0.99, 1)])
def test_floor_of_the_product_goes_and_one_filter_stays(sparsity: float, left: int) -> None:
    assert pruned(plain(), sparsity=sparsity, op_names=["a"]).a.out_channels == left


def test_added_layers_are_ranked_by_their_sum_and_lose_the_same() -> None:
    removed = plan(Tied(), sparsity=0.34, op_names=["a", "b"]).edits.removed
    assert removed == {"a": {"out": [1]}, "b": {"out": [1]}, "c": {"in": [1]}}  # 10, 6, 10


def test_without_dependencies_the_first_layer_ranks() -> None:
    options = {"sparsity": 0.34, "op_names": ["a", "b"], "dependency_aware": False}
    assert plan(Tied(), **options).edits.removed["b"] == {"out": [0]}  # a alone: 1, 5, 9
    options["op_names"] = ["b"]
    assert plan(Tied(), **options).edits.removed["b"] == {"out": [1]}  # b alone: 9, 1, 1


def test_a_tied_layer_that_was_not_selected_goes_along_and_is_named() -> None:
    decision = plan(Tied(), sparsity=0.34, op_names=["b"])
    assert decision.edits.removed["a"] == {"out": [1]}
    assert decision.notes == ["a: pruned too, tied to b"]


def test_a_tie_with_an_excluded_layer_stays_whole() -> None:
    decision = plan(Tied(), sparsity=0.5, exclude=["b"])
    assert set(decision.edits.removed) == {"c", "h"}
    assert decision.notes == ["a: left whole, tied to b, which is excluded"]


def test_of_two_sparsities_in_a_tie_the_lower_counts() -> None:
    entries = [{"sparsity": 0.7, "op_names": ["a"]}, {"sparsity": 0.34, "op_names": ["b"]}]
    decision = plan(Tied(), config_list=entries)
    assert decision.edits.removed["a"] == {"out": [1]}
    assert decision.notes == ["a, b are tied: the lowest sparsity, 0.34, counts"]


def test_a_number_that_rounds_to_nothing_is_told_and_alone_is_an_error() -> None:
    decision = plan(Tied(), sparsity=0.34)
    assert decision.edits.removed["a"] == {"out": [1]}
    assert decision.notes == ["c: 0.34 of 2 filters rounds to nothing"]
    with pytest.raises(IncompatibleModel, match=r"changes nothing\. a, b: 0\.3 of 3 filters"):
        plan(Tied(), sparsity=0.3, op_names=["a", "b"])


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parameters_are_pruned_like_others(frozen: bool) -> None:
    model = plain().requires_grad_(not frozen)
    assert pruned(model, sparsity=0.5).a.out_channels == 3


def test_a_batch_of_one_image_is_a_batch() -> None:
    seen = set()

    class Watched(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            seen.add(tuple(x.shape))
            return super().forward(x)

    model = Watched(*plain())
    decision = plan(model, IMAGES[:1], sparsity=0.5)
    assert seen == {(1, 1, 6, 6)}
    assert decision.edits == plan(model, sparsity=0.5).edits


def test_the_model_that_is_planned_for_is_left_alone() -> None:
    model = plain().train()
    before = copy.deepcopy(model.state_dict())
    plan(model, sparsity=0.5)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# -- the head


def test_a_head_that_is_named_is_an_error() -> None:
    with pytest.raises(ConfigError, match="h makes the logits: its filters are classes"):
        plan(plain(), sparsity=0.5, op_names=["h"])


def test_linear_layers_are_treated_where_asked_but_not_the_head() -> None:
    model = chain(f=nn.Flatten(), l=norms(nn.Linear(36, 4), 4, 1, 2, 3), h=nn.Linear(4, 3))
    decision = plan(model, sparsity=0.5, op_types=["Linear"])
    assert decision.edits.removed == {"l": {"out": [1, 2]}, "h": {"in": [1, 2]}}
    assert decision.notes == ["the classifier head (h) stays as it is; name it to treat it"]


def test_a_convolution_that_makes_the_logits_is_a_head() -> None:
    model = chain(
        a=norms(nn.Conv2d(1, 4, 3), 1, 2, 3, 4),
        h=nn.Conv2d(4, 3, 1),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
    )
    assert plan(model, sparsity=0.5).edits.removed == {"a": {"out": [0, 1]}, "h": {"in": [0, 1]}}


def test_a_layer_tied_to_the_head_stays_whole() -> None:
    model = chain(
        a=nn.Conv2d(1, 3, 1),
        d=nn.Conv2d(3, 3, 3, groups=3),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
    )
    with pytest.raises(IncompatibleModel, match="a: left whole, tied to d, which makes the logits"):
        plan(model, sparsity=0.5)


def test_a_layer_that_also_makes_the_logits_is_a_head() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.h = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            first = self.a(x)
            return self.h(self.b(first).mean((2, 3))) + first.mean((2, 3))

    with pytest.raises(ConfigError, match="a makes the logits"):
        plan(Sum(), sparsity=0.5, op_names=["a"])
    assert set(plan(Sum(), sparsity=0.5).edits.removed) == {"b", "h"}


# -- groups


def test_a_grouped_layer_and_what_feeds_it_lose_equally_many_in_each_group() -> None:
    model = chain(
        a=norms(nn.Conv2d(1, 8, 1), 1, 2, 3, 4, 5, 6, 7, 8),
        g=norms(nn.Conv2d(8, 4, 1, groups=2), 4, 3, 2, 1),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
        h=nn.Linear(4, 2),
    )
    removed = plan(model, sparsity=0.5).edits.removed
    assert removed["a"] == {"out": [0, 1, 4, 5]}  # the two least of each half
    assert removed["g"] == {"in": [0, 1, 4, 5], "out": [1, 3]}


def test_a_group_norm_keeps_its_groups_equal() -> None:
    model = chain(
        a=norms(nn.Conv2d(1, 6, 1), 1, 2, 3, 4, 5, 6),
        n=nn.GroupNorm(3, 6),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
        h=nn.Linear(6, 2),
    )
    assert plan(model, sparsity=0.5).edits.removed["a"] == {"out": [0, 2, 4]}


def test_a_depthwise_layer_goes_with_the_layer_before_it() -> None:
    model = chain(
        a=norms(nn.Conv2d(1, 4, 1), 1, 2, 3, 4),
        d=norms(nn.Conv2d(4, 4, 3, groups=4), 9, 1, 1, 1),
        p=nn.AdaptiveAvgPool2d(1),
        f=nn.Flatten(),
        h=nn.Linear(4, 2),
    )
    removed = plan(model, sparsity=0.5).edits.removed
    assert removed["a"] == {"out": [1, 2]}  # 10, 3, 4, 5
    assert removed["d"] == {"in": [1, 2], "out": [1, 2]}


class Gated(nn.Module):
    """The second half of the filters gates the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.h = norms(nn.Conv2d(1, 6, 1), 1, 5, 9, 9, 5, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).chunk(2, dim=1)
        return self.h((left * right.sigmoid()).mean((2, 3)))


def test_filters_that_gate_each_other_go_together_and_count_twice() -> None:
    removed = plan(Gated(), sparsity=0.5).edits.removed  # 10, 10, 11; three of six, so one pair
    assert removed == {"a": {"out": [0, 3]}, "h": {"in": [0]}}


# -- concatenation


class Branches(nn.Module):
    """A concatenation of 2 and 3 channels, to which 5 are added."""

    def __init__(self, *, added: bool) -> None:
        super().__init__()
        self.a = norms(nn.Conv2d(1, 2, 1), 2, 1)
        self.b = norms(nn.Conv2d(1, 3, 1), 3, 1, 2)
        self.c = norms(nn.Conv2d(1, 5, 1), 1, 1, 1, 9, 1)
        self.n, self.h = nn.BatchNorm2d(5), nn.Linear(5, 2)
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), self.b(x)], 1)
        y = y + self.c(x) if self.added else y
        return self.h(torch.relu(self.n(y)).mean((2, 3)))


def test_concatenated_layers_are_ranked_apart_and_found_at_their_place() -> None:
    removed = plan(Branches(added=False), sparsity=0.5, op_names=["a", "b"]).edits.removed
    assert removed == {
        "a": {"out": [1]},
        "b": {"out": [1]},
        "n": {"out": [1, 3]},
        "h": {"in": [1, 3]},
    }


def test_each_layer_of_an_uneven_tie_keeps_its_own_number() -> None:
    removed = plan(Branches(added=True), sparsity=0.5).edits.removed
    assert removed["a"] == {"out": [1]}
    assert removed["b"] == {"out": [2]}  # 4, 10, 3 with c
    assert removed["c"] == {"out": [1, 4]}


# -- what cannot be followed


class Mixed(nn.Module):
    """The mean over channels depends on how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.a = norms(nn.Conv2d(1, 4, 3), 1, 2, 3, 4)
        self.b = norms(nn.Conv2d(4, 2, 3), 2, 1)
        self.h = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.h(self.b(y * torch.sigmoid(y.mean(1, keepdim=True))).mean((2, 3)))


def test_where_an_operation_mixes_channels_filters_are_zeroed_and_the_rest_removed() -> None:
    decision = plan(Mixed(), sparsity=0.5)
    assert decision.edits.removed == {"b": {"out": [1]}, "h": {"in": [1]}}
    assert {
        name: mask.flatten(1).all(1).tolist()
        for name, mask in decision.edits.masked.items()
        if mask.ndim > 1
    } == {"a.weight": [True, True, False, False]}
    assert decision.edits.masked["a.bias"].tolist() == [True, True, False, False]
    (note,) = decision.notes
    assert note.startswith("a: filters are zero instead of removed, so size and latency stay")
    assert "because mean mixes or divides channels" in note


def test_only_a_removal_that_was_tried_out_as_a_whole_is_not_compared_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def differs(*_: object) -> Comparison:
        return Comparison(fault="compared again")

    monkeypatch.setattr(selfcheck, "same_function", differs)
    monkeypatch.setattr(selfcheck, "check_reload", lambda *_: selfcheck.Stored())
    monkeypatch.setattr(selfcheck, "latency_ratio", lambda *_, **__: 1.0)
    assert L1Filter(sparsity=0.5).compress(plain(), IMAGES).model.a.out_channels == 3
    with pytest.raises(SelfCheckError, match="compared again"):
        L1Filter(sparsity=0.5).compress(Mixed(), IMAGES)


class Shuffled(nn.Module):
    """Channels are shuffled between two groups, as in ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = norms(nn.Conv2d(1, 4, 1), 1, 2, 3, 4), nn.Conv2d(4, 4, 1, groups=2)
        self.h = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).view(len(x), 2, 2, 6, 6).transpose(1, 2).reshape(len(x), 4, 6, 6)
        return self.h(self.b(y).mean((2, 3)))


def test_where_the_narrower_network_fails_the_place_is_named() -> None:
    decision = plan(Shuffled(), sparsity=0.5, op_names=["a"])
    assert decision.edits.removed == {}
    assert decision.edits.masked["a.bias"].tolist() == [True, True, False, False]
    assert "because the narrower network fails" in decision.notes[0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = norms(nn.Conv2d(1, 4, 3), 1, 2, 3, 4)
        self.m, self.h = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).flatten(2).transpose(1, 2)
        return self.h(self.m(y, y, y, need_weights=False)[0].mean(1))


def test_an_operation_that_needs_all_channels_is_named() -> None:
    decision = plan(Attention(), sparsity=0.5)
    assert decision.edits.removed == {}
    assert "attention mixes or divides channels" in decision.notes[0]


def test_a_removal_after_a_mask_works_as_one_model() -> None:
    result = L1Filter(sparsity=0.5).compress(Mixed(), IMAGES)
    assert result.model.b.out_channels == 1
    assert int((result.model.a.weight == 0).sum()) == 18
    assert result.report.achieved["params_after"] < result.report.achieved["params_before"]


# -- classifiers of ours


def test_a_classifier_is_addressed_by_the_names_of_its_backbone() -> None:
    torch.manual_seed(0)
    model = DigitsCNN(pretrained=False)
    result = L1Filter(sparsity=0.5, op_names=["block?.conv1"]).compress(
        model, torch.rand(2, 1, 8, 8)
    )
    assert type(result.model) is DigitsCNN
    assert result.model.baseline is model
    assert result.model.backbone.block1.conv1.out_channels == 8
    assert result.edits.removed["backbone.block1.conv1"]["out"]
    assert not any("backbone" in note for note in result.report.notes)


def test_shortcuts_without_parameters_are_cut_on_both_sides() -> None:
    torch.manual_seed(0)
    model = CifarResNet(8).eval()
    images = torch.rand(2, 3, 32, 32)
    after = pruned(model, images, sparsity=0.5)
    assert [
        after.backbone.layer2[0].shortcut.inputs,
        *after.backbone.layer2[0].shortcut.source.shape,
    ] == [8, 16]
    assert after.embedding_dim == 32
    assert after(images).shape == (2, 10)


def test_a_weight_under_a_mask_has_to_be_made_permanent_first() -> None:
    model = plain()
    nn.utils.prune.l1_unstructured(model.a, "weight", amount=0.5)
    with pytest.raises(IncompatibleModel, match="make it permanent first"):
        plan(model, sparsity=0.5)
    nn.utils.prune.remove(model.a, "weight")
    nn.utils.parametrizations.orthogonal(model.h)
    with pytest.raises(IncompatibleModel, match="make it permanent first"):
        plan(model, sparsity=0.5)


def test_dependency_aware_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="dependency_aware is true or false, got 'yes'"):
        L1Filter(sparsity=0.5, dependency_aware="yes")


def test_what_was_tried_out_is_what_comes_out() -> None:
    model = plain().train()
    model.n.eval()
    model.a.weight.requires_grad_(False)
    after = L1Filter(sparsity=0.4).compress(model, IMAGES).model
    expected = copy.deepcopy(model)
    perform(expected, plan(model, sparsity=0.4).edits)
    assert State(after) == State(expected)
    assert not any(part._forward_pre_hooks for part in after.modules())


@pytest.mark.parametrize(
    ("model", "trials"), [(plain(), 0), (Tied(), 0), (Mixed(), 1)], ids=["plain", "tied", "mixed"]
)
def test_ties_are_tried_out_one_by_one_only_where_the_whole_fails(
    model: nn.Module, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def find(*given: Any, tried: bool, **options: Any) -> Ties:
        asked.append(tried)
        return find_ties(*given, tried=tried, **options)

    monkeypatch.setattr(filters, "find_ties", find)
    plan(model, sparsity=0.5)
    assert asked == [False, *[True] * trials]


class Keeping(nn.Module):
    """In eval mode it computes a weight once, as some transformers do with their biases."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale * 2
        if not self.training:
            scale = self.kept.setdefault("scale", scale)
        return self.h(self.b(self.a(x) * scale).mean((2, 3)))


class Counting(nn.Module):
    """It counts its passes, gives one sample's logits without a batch, and recomputes a part."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.h = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        x = checkpoint(self.b, self.a(x), use_reentrant=True)
        return self.h(x.mean((2, 3)).squeeze())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_a_network_that_counts_and_recomputes_is_pruned() -> None:
    with torch.inference_mode():
        model = Counting().eval()
    after = L1Filter(sparsity=0.5).compress(model, IMAGES).model
    assert (after.a.out_channels, model.passes, after.passes) == (2, 0, 0)
    five = Decision(model=chain(c=Counting()).eval())
    five.model.c.h = nn.Linear(4, 5)
    wider = L1Filter(sparsity=0.5)
    wider.decide = lambda _: five  # type: ignore[method-assign]
    with pytest.raises(SelfCheckError, match=r"expected logits of shape \(3,\), got \(5,\)"):
        wider.compress(chain(c=Counting()).eval(), IMAGES)


def test_nothing_that_a_network_computed_on_the_way_stays_in_it() -> None:
    model = Keeping().eval()
    after = L1Filter(sparsity=0.5).compress(model, IMAGES).model
    assert (after.a.out_channels, model.kept, after.kept) == (2, {}, {})
