import pytest
import torch
from torch import Tensor, nn

from compressors.pruning.coupling import choose, closed, filter_mask, filter_norms, find_tie, width
from compressors.pruning.dependency import ChannelGraph, as_edits
from compressors.pruning.filters import L1Filter

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))

LAYERS = {
    "convolution": nn.Conv2d(3, 4, 2),
    "grouped": nn.Conv2d(4, 6, 2, groups=2),
    "depthwise": nn.Conv1d(4, 4, 3, groups=4),
    "transposed": nn.ConvTranspose2d(3, 4, 2),
    "grouped_transposed": nn.ConvTranspose2d(4, 6, 2, groups=2),
    "linear": nn.Linear(3, 4),
    "without_bias": nn.Conv3d(2, 4, 1, bias=False),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("filter_index", [0, 3])
def test_a_filter_is_what_its_output_is_made_of(layer: nn.Module, filter_index: int) -> None:
    flags = torch.zeros(width(layer), dtype=torch.bool)
    flags[filter_index] = True
    before = filter_norms(layer)
    masks = filter_mask(layer, flags)
    shape = [2, getattr(layer, "in_channels", 3)] + [4] * (layer.weight.ndim - 2)
    saved = {name: getattr(layer, name).detach().clone() for name in masks}
    with torch.no_grad():
        for name, mask in masks.items():
            getattr(layer, name)[mask] = 0
        silent = layer(torch.rand(shape)).abs().transpose(0, 1).flatten(1).sum(1) == 0
        norms = filter_norms(layer)
        for name, tensor in saved.items():
            getattr(layer, name).copy_(tensor)
    assert silent.tolist() == flags.tolist()
    assert (norms == 0).tolist() == flags.tolist()
    assert torch.equal(norms[~flags], before[~flags])


def test_norms_are_sums_of_magnitudes() -> None:
    layer = nn.Conv2d(1, 2, (1, 2))
    layer.weight.data = torch.tensor([[3.0, -4.0], [-0.5, 0.25]]).view(2, 1, 1, 2)
    assert filter_norms(layer).tolist() == [7, 0.75]


class Split(nn.Module):
    """The second half of the channels gates the first: both halves go together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.h = nn.Conv2d(1, 6, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(self.a(x), 3, dim=1)
        return self.h((left * right.sigmoid()).mean((2, 3)))


def test_a_gate_ties_filters_of_one_layer() -> None:
    model = Split()
    tie = find_tie(ChannelGraph(model, IMAGES), model, "a", one_by_one=True)
    assert tie.layers == ["a"]
    assert tie.bundles == [[("a", i), ("a", i + 3)] for i in range(3)]


@pytest.mark.parametrize(("sparsity", "gone"), [(0.17, 0), (0.34, 2), (0.7, 4)])
def test_a_bundle_counts_with_all_its_filters(sparsity: float, gone: int) -> None:
    model = Split()
    tie = find_tie(ChannelGraph(model, IMAGES), model, "a", one_by_one=True)
    assert len(choose(tie, model, sparsity=sparsity, importance=lambda _: 0.0)) == gone


def test_a_tie_that_was_overlooked_shows_in_what_is_touched() -> None:
    model = Split()
    graph = ChannelGraph(model, IMAGES)
    tie = find_tie(graph, model, "a")
    assert closed(graph, tie, [("a", 0)]) is None
    touched = closed(graph, tie, [("a", 0), ("a", 3)])
    assert as_edits(touched).removed == {"a": {"out": [0, 3]}, "h": {"in": [0]}}


def test_filters_that_meet_again_on_two_ways_are_one_bundle() -> None:
    class Ghost(nn.Module):
        """A sum with cheap copies of some filters beside these, as in GhostNet."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.p = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1)
            self.d, self.h = nn.Conv2d(2, 2, 1, groups=2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            some = self.p(y)
            return self.h((torch.cat([some, self.d(some)], 1) + y).mean((2, 3)))

    model = Ghost()
    tie = find_tie(ChannelGraph(model, IMAGES), model, "a")
    assert L1Filter(sparsity=0.5).plan(model.eval(), IMAGES).edits.masked == {}
    assert [set(bundle) for bundle in tie.bundles] == [
        {("a", i), ("a", i + 2), ("p", i), ("d", i)} for i in range(2)
    ]


@pytest.mark.parametrize("believed", [False, True])
def test_a_layer_is_asked_unless_all_its_filters_came_up(believed: bool) -> None:
    class Sums(nn.Module):
        """A sum of two, and another beside it, are added to a wider one."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.d = (nn.Conv2d(1, 2, 1) for _ in range(3))
            self.c, self.h = nn.Conv2d(1, 4, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            both = torch.cat([self.a(x) + self.b(x), self.d(x)], 1)
            return self.h((both + self.c(x)).mean((2, 3)))

    model, asked = Sums(), []
    graph = ChannelGraph(model, IMAGES)
    touched = graph.touched
    graph.touched = lambda name, filters: asked.append(name) or touched(name, filters)
    tie = find_tie(graph, model, "a", believed=believed)
    assert set(tie.layers) == {"a", "b", "c", "d"}
    assert set(asked) == ({"a", "c"} if believed else {"a", "b", "c", "d"})
    assert dict(zip(tie.places, tie.cost.sum(axis=0).tolist(), strict=True)) == {
        (name, "out", 0): count for name, count in {"a": 2, "b": 2, "c": 4, "d": 2}.items()
    }


def test_a_bundle_too_large_for_the_budget_leaves_room_for_the_next() -> None:
    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 2, 1)
            self.h = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.a(x), self.b(x)
            return self.h(torch.cat([a[:, :2] + b, a], 1).mean((2, 3)))

    model = Uneven()
    tie = find_tie(ChannelGraph(model, IMAGES), model, "a")
    assert set(tie.layers) == {"a", "b"}
    order = {("a", 0): 0.0, ("a", 1): 1.0, ("a", 2): 2.0, ("a", 3): 3.0}
    chosen = choose(
        tie, model, sparsity=0.5, importance=lambda b: min(order.get(one, 9.0) for one in b)
    )
    assert sorted(chosen) == [("a", 0), ("a", 2), ("b", 0)]  # b has to keep one of its two
