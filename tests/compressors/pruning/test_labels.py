"""Channels of networks that no dependency graph follows: hand-made, a few channels wide."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.pruning.criteria import RandomFilter
from compressors.pruning.filters import FilterPruner, L1Filter
from compressors.pruning.labels import LabelGraph
from compressors.resources import Resources
from compressors.selfcheck import same_function
from core.errors import IncompatibleModel
from models.edits import Edits, perform

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def removed(model: nn.Module, layer: str, *filters: int) -> dict[str, Any]:
    found = LabelGraph(model.eval(), IMAGES).touched(layer, filters)
    return {f"{item.name} {item.side}": list(item.channels) for item in found}


def layers_that_stay(model: nn.Module) -> dict[str, str]:
    graph, reasons = LabelGraph(model.eval(), IMAGES), {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            try:
                graph.touched(name, [0])
            except IncompatibleModel as error:
                reasons[name] = str(error)
    return reasons


def check(
    model: nn.Module, pruner: FilterPruner | None = None, given: Resources | None = None
) -> Edits:
    """Some of everything goes, by default half, and the network is the masked one."""
    model = model.eval()
    pruner = pruner or L1Filter(sparsity=0.5, op_types=["default", "Linear"])
    edits = pruner.plan(model, IMAGES, given).edits
    narrow = copy.deepcopy(model)
    perform(narrow, edits)
    assert same_function(model, narrow, edits, IMAGES).fault == ""
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in model.parameters())
    return edits


class Shuffle(nn.Module):
    """Two halves: one passes, one goes through a bottleneck; then they are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.narrow, self.norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.wide, self.last, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(8, 6, 1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        passing, other = self.stem(x).chunk(2, dim=1)
        other = self.wide(self.depthwise(torch.relu(self.norm(self.narrow(other)))))
        x = torch.cat([passing, other], dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.last(x).mean((2, 3)))


class Window(nn.Module):
    """Windows of a rolled image attend, then a perceptron; a token and a scale are bare."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 6, 1), nn.LayerNorm(6)
        self.token = nn.Parameter(torch.rand(1, 1, 6))
        self.scale = nn.Parameter(torch.rand(6))
        self.qkv, self.proj = nn.Linear(6, 18), nn.Linear(6, 6)
        self.up, self.down, self.head = nn.Linear(6, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        windows = torch.roll(x, (-1, -1), (1, 2)).view(n, 2, h // 2, 2, w // 2, c)
        windows = self.norm(windows.transpose(2, 3).reshape(4 * n, h * w // 4, c))
        q, k, v = self.qkv(windows).view(len(windows), -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = (windows + self.proj(mixed)).reshape(n, h * w, c)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1)
        x = x + self.scale * self.down(torch.nn.functional.gelu(self.up(x)))
        return self.head(x.mean(1))


def test_inside_of_a_shuffled_block_filters_go() -> None:
    assert removed(Shuffle(), "narrow", 2) == {
        "narrow out": [2],
        "norm out": [2],
        "depthwise in": [2],
        "depthwise out": [2],
        "wide in": [2],
    }
    assert removed(Shuffle(), "last", 1, 4) == {"last out": [1, 4], "head in": [1, 4]}
    assert removed(Shuffle(), "stem", 1) == {
        "stem out": [1, 5], "narrow in": [1], "wide out": [1], "last in": [2, 3],
    }  # fmt: skip
    assert not check(Shuffle()).masked


def test_around_window_attention_channels_go_with_all_that_is_added_to_them() -> None:
    assert removed(Window(), "up", 7) == {"up out": [7], "down in": [7]}
    stream = ["patch", "norm", "proj", "token", "scale", "down"]
    inputs = ["qkv", "up", "head"]
    assert removed(Window(), "patch", 4) == {
        **{f"{name} out": [4] for name in stream},
        **{f"{name} in": [4] for name in inputs},
    }
    assert check(Window()).masked.keys() == {"qkv.weight", "qkv.bias"}  # numbers in the code


class Heads(nn.Module):
    """Two heads, three wide; whether sizes are kept or asked for."""

    def __init__(self, *, kept: bool, fused: bool = False) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.all_dim, self.scale = 2, 3, 6, 0.5
        self.qkv, self.proj, self.head = nn.Linear(3, 18), nn.Linear(6, 4), nn.Linear(4, 2)
        self.kept, self.fused = kept, fused

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        width = self.key_dim if self.kept else -1
        parts = self.qkv(x).view(*x.shape[:2], 3, self.num_heads, width)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q * self.scale @ k.transpose(-2, -1)).softmax(-1) @ v
        mixed = mixed.transpose(1, 2).reshape(*x.shape[:2], self.all_dim if self.kept else -1)
        return self.head(self.proj(mixed).mean(1))


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "asked for"])
def test_heads_become_narrower_with_the_sizes_that_are_kept(kept: bool) -> None:
    assert removed(Heads(kept=kept), "qkv", 4) == {
        "key_dim out": [1],
        "all_dim out": [1, 4],
        "qkv out": [1, 4, 7, 10, 13, 16],
        "proj in": [1, 4],
    }
    assert not check(Heads(kept=kept)).masked


def test_whole_heads_go_where_their_width_decides_the_scale() -> None:
    model = Heads(kept=True, fused=True).eval()
    assert "scaled_dot_product" in layers_that_stay(model)["qkv"]
    edits = check(model)
    assert not edits.masked
    assert len(edits.removed["num_heads"]["out"]) == 1
    narrow = copy.deepcopy(model)
    perform(narrow, edits)
    assert (narrow.num_heads, narrow.key_dim, narrow.all_dim) == (1, 3, 3)


class Mixing(nn.Module):
    """Multi-scale linear attention: whole groups of a grouped convolution are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.dim = nn.Conv2d(3, 24, 1, bias=False), 2
        self.mix = nn.Conv2d(24, 24, 1, groups=12, bias=False)
        self.proj, self.head = nn.Conv2d(16, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        first = self.qkv(x)
        x = torch.cat([first, self.mix(first)], dim=1).reshape(n, -1, 3 * self.dim, h * w)
        q, k, v = x.transpose(-1, -2).chunk(3, dim=-1)
        x = q.relu() @ (k.relu().transpose(-1, -2) @ v)
        return self.head(self.proj(x.transpose(-1, -2).reshape(n, -1, h, w)).mean((2, 3)))


def test_whole_groups_go_where_they_are_heads() -> None:
    edits = check(Mixing())
    assert not edits.masked
    assert {side: len(gone) for side, gone in edits.removed["mix"].items()} == {"in": 12, "out": 12}


@pytest.mark.parametrize("pruner", [L1Filter, RandomFilter])
@pytest.mark.parametrize(
    "network",
    [Shuffle, partial(Heads, kept=True), partial(Heads, kept=True, fused=True), Mixing],
    ids=["shuffle", "heads", "whole heads", "groups"],
)
def test_whatever_is_chosen_and_however_much_it_is_removed(
    network: Any, pruner: type[FilterPruner]
) -> None:
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=lambda *_, **__: None)
    some = pruner(sparsity=0.34, op_types=["default", "Linear"])
    assert not check(network(), some, given).masked


class Small(nn.Module):
    """Two layers with an operation in between."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Conv2d(3, 4, 1), nn.Linear(4, 2), between
        self.register_buffer("constant", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.a(x), self)
        return self.b(x.mean((2, 3)) if x.ndim == 4 else x)


@pytest.mark.parametrize(
    "between",
    [
        lambda x, _: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x, _: torch.nn.functional.pad(x, (1, 1, 1, 1))[:, :, 1:],
        lambda x, _: torch.nn.functional.hardswish(torch.max_pool2d(x, 2)),
        lambda x, _: x.flatten(2).amax(-1),
        lambda x, _: x.add_(1.0),
    ],
    ids=["gate", "pad", "pool", "amax", "in place"],
)
def test_what_leaves_channels_where_they_are_is_followed(between: Any) -> None:
    assert removed(Small(between), "a", 1) == {"a out": [1], "b in": [1]}


@pytest.mark.parametrize(
    ("between", "operation"),
    [
        (lambda x, m: x + m.constant, "add"),
        (lambda x, _: x * x.mean(1, keepdim=True), "mean"),
        (lambda x, _: x.softmax(1), "softmax"),
        (lambda x, _: torch.cumsum(x, 1), "cumsum"),
        (lambda x, _: torch.cat([x[:, 2:], x[:, :2]], 1), "slice"),
    ],
    ids=["constant", "mean", "softmax", "unknown", "slice"],
)
def test_what_needs_all_channels_keeps_them_and_is_named(between: Any, operation: str) -> None:
    stay = layers_that_stay(Small(between))
    assert stay == {"a": f"{operation} mixes or divides channels"}


def test_a_flattened_map_takes_all_places_of_a_channel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2))
    assert removed(model, "0", 1) == {"0 out": [1], "2 in": list(range(16, 32))}


def test_a_layer_that_is_called_twice_has_one_set_of_channels() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(self.b(self.a(x))).mean((2, 3)))

    tied = removed(Twice(), "a", 3)
    assert tied == {"a out": [3], "b in": [3], "b out": [3], "head in": [3]}


def test_what_is_added_to_something_fixed_is_fixed() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.a(x), self.b(x)
            shares = second.softmax(1)
            return self.head((first + second).mean((2, 3))) + shares.mean((1, 2, 3))[:, None]

    reason = "softmax mixes or divides channels"
    assert layers_that_stay(Added()) == {"a": reason, "b": reason}


def test_a_layer_over_places_keeps_the_channels_they_have() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Conv2d(3, 4, 1), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.a(x).flatten(2)).mean(1)

    assert layers_that_stay(Mixer()) == {"a": "head mixes or divides channels"}


def test_a_weight_that_is_used_bare_cannot_be_cut() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(nn.functional.linear(x.mean((2, 3)), self.a.weight))

    with pytest.raises(IncompatibleModel, match="it is not called as a layer"):
        LabelGraph(Bare(), IMAGES).touched("a", [0])


def test_the_model_is_left_alone() -> None:
    model = Window()
    before = copy.deepcopy(model.state_dict())
    LabelGraph(model.eval(), IMAGES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
