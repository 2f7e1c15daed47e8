"""Filters that have to go together, ranked and chosen.

Layers tied by an addition lose the same channels, a layer behind a concatenation those of its
part, a grouped convolution equally many in each group. All of it follows from the union of filters
that the dependency graph ties, and a budget for each place where a number is prescribed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.pruning.dependency import Followed, Touched
from compressors.tracing import LAYERS
from models.edits import Side

Filter = tuple[str, int]
"""Layer and output channel."""

Channel = tuple[str, Side, int]
"""Module, side and channel there."""

Place = tuple[str, Side, int]
"""Module, side and group there."""


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Layers whose filters are tied, with all that hangs on them.

    Args:
        layers: Full names; the first is the one that was asked for.
        bundles: Filters that go together or not at all, in the order of the layers.
        counted: Filter -> channels that go with it and count towards a budget.
        size: Side of a module -> channels of each of its groups, which lose equally many; of all
            groups together where they go whole or not at all.
    """

    layers: list[str]
    bundles: list[list[Filter]]
    counted: Mapping[Filter, set[Channel]] = field(repr=False)
    size: Mapping[tuple[str, Side], int]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What was chosen of a tie.

    Args:
        tie: As it was found at last.
        filters: Of its layers.
        touched: All that goes with them; None where that is more of the tie's filters than these.
    """

    tie: Tie
    filters: list[Filter]
    touched: list[Touched] | None


def filter_rows(layer: Any, entries: Tensor) -> Tensor:
    """What belongs to each filter of a layer, one row a filter.

    Args:
        layer: Convolution or linear layer.
        entries: Of the shape of its weight: the weight, or a gradient.

    Returns:
        Float64 [filters, entries of a filter].
    """
    rows = entries.detach().double()
    if getattr(layer, "transposed", False):  # [in, out / groups, ...], groups along the inputs
        rows = rows.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return rows.flatten(1)


def filter_norms(layer: Any) -> Tensor:
    """Sum of the magnitudes of each filter's weights, float64 [filters].

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
        >>> filter_norms(layer).tolist()
        [3.0, 0.5]
    """
    return filter_rows(layer, layer.weight).abs().sum(dim=1)


def filter_mask(layer: Any, filters: Tensor) -> dict[str, Tensor]:
    """Masks of `weight` and `bias` that cover whole filters.

    Args:
        layer: Convolution or linear layer.
        filters: Bool [filters].

    Returns:
        Bool tensors on the CPU, True = belongs to one of `filters`.
    """
    filters = filters.cpu()
    rows: Tensor = filters
    if getattr(layer, "transposed", False):
        rows = filters.view(layer.groups, 1, -1).expand(-1, layer.in_channels // layer.groups, -1)
        rows = rows.flatten(0, 1)
    shape = layer.weight.shape
    weight = rows.view(*rows.shape, *[1] * (len(shape) - rows.ndim)).expand(shape)
    return {"weight": weight} | ({"bias": filters} if layer.bias is not None else {})


def width(layer: Any) -> int:
    """Number of filters of a layer."""
    return int(getattr(layer, "out_channels", 0) or layer.out_features)


def find_tie(graph: Followed, model: nn.Module, layer: str, *, one_by_one: bool = False) -> Tie:
    """Everything tied to the filters of `layer`, directly or through others.

    Args:
        graph: Of `model`.
        model: The network.
        layer: Full name.
        one_by_one: Ask for each filter alone: slow, but it finds filters of one layer that are
            tied to each other. Asked for all filters at once, the graph drops what it has seen.

    Raises:
        IncompatibleModel: A module on the way cannot lose channels.
    """
    union = _Union()
    counted: dict[Filter, set[Channel]] = {}
    layers = [layer]
    for name in layers:  # grows
        filters = range(width(model.get_submodule(name)))
        asked = [[i] for i in filters] if one_by_one else [filters]
        for item in (item for some in asked for item in graph.touched(name, some)):
            module = graph.module(item.name)
            tied = item.side == "out" and isinstance(module, LAYERS)
            counts = tied or group_count(module, item.side) > 1
            if tied and item.name not in layers:
                layers.append(item.name)
            if not counts:
                continue
            for channel, root in zip(item.channels, item.roots, strict=True):
                one = (name, root)
                if tied:
                    union.join(one, (item.name, channel))
                counted.setdefault(one, set()).add((item.name, item.side, channel))
    rank = {name: position for position, name in enumerate(layers)}
    bundles = union.sets(order=lambda one: (rank[one[0]], one[1]))
    size = _sizes(model, bundles, counted)
    return Tie(layers=layers, bundles=bundles, counted=counted, size=size)


def _sizes(
    model: nn.Module, bundles: list[list[Filter]], counted: Mapping[Filter, set[Channel]]
) -> dict[tuple[str, Side], int]:
    """Channels that are counted together, of each side of a module."""
    keys = {channel[:2] for some in counted.values() for channel in some}
    sides = {(name, side): model.get_submodule(name) for name, side in keys}
    whole = {key: _channel_count(m, key[1]) for key, m in sides.items()}
    size = {key: whole[key] // group_count(m, key[1]) for key, m in sides.items()}
    if size == whole:  # no groups
        return whole
    channels = [set().union(*(counted.get(one, ()) for one in bundle)) for bundle in bundles]
    divided = {
        (name, side)
        for some in channels
        for (name, side, _), count in _places(some, size).items()
        if count < size[name, side]
    }
    return {key: size[key] if key in divided else whole[key] for key in sides}


def take(graph: Followed, model: nn.Module, tie: Tie, pick: Callable[[Tie], list[Filter]]) -> Taken:
    """Pick filters of a tie, and find all that goes with them.

    Args:
        graph: In which the tie was found.
        model: The network.
        tie: Found anew, one filter at a time, where filters of one layer are tied to each other.
        pick: Filters of a tie.
    """
    filters = pick(tie)
    touched = closed(graph, tie, filters)
    if touched is None:
        tie = find_tie(graph, model, tie.layers[0], one_by_one=True)
        filters = pick(tie)
        touched = closed(graph, tie, filters)
    return Taken(tie=tie, filters=filters, touched=touched)


def closed(graph: Followed, tie: Tie, filters: list[Filter]) -> list[Touched] | None:
    """All that goes with `filters`; None if that is more of the tie's filters than these."""
    touched = [
        item
        for name in tie.layers
        for item in graph.touched(name, [i for layer, i in filters if layer == name])
    ]
    found = {(t.name, i) for t in touched if t.side == "out" for i in t.channels}
    return None if any(one[0] in tie.layers for one in found - set(filters)) else touched


def choose(
    tie: Tie, model: nn.Module, *, sparsity: float, importance: Callable[[list[Filter]], float]
) -> list[Filter]:
    """Filters to remove, least important bundles first, as long as every budget lasts.

    Args:
        tie: What goes together.
        model: The model it was found in.
        sparsity: Fraction of each layer's filters to remove, in [0, 1).
        importance: Of a bundle; ties go to the earlier one.
    """
    bundles = sorted(tie.bundles, key=importance)
    return fill(tie, bundles, budget=lambda place: _budget(tie, model, place, sparsity))


def fill(
    tie: Tie, bundles: Iterable[list[Filter]], *, budget: Callable[[Place], int]
) -> list[Filter]:
    """Filters of those bundles that every budget lasts for, the earlier ones first.

    Args:
        tie: What goes together.
        bundles: Of the tie.
        budget: Of a place: how many of its channels may go.
    """
    used: Counter[Place] = Counter()
    chosen: list[Filter] = []
    lasts = cache(budget)
    for bundle in bundles:
        cost = places_of(tie, bundle)
        if all(used[place] + n <= lasts(place) for place, n in cost.items()):
            used += cost
            chosen += bundle
    return chosen


def places_of(tie: Tie, filters: Iterable[Filter]) -> Counter[Place]:
    """How many channels go from each place with some filters of a tie."""
    return _places(set().union(*(tie.counted.get(one, ()) for one in filters)), tie.size)


def _places(channels: Iterable[Channel], size: Mapping[tuple[str, Side], int]) -> Counter[Place]:
    return Counter((name, side, index // size[name, side]) for name, side, index in channels)


def _budget(tie: Tie, model: nn.Module, place: Place, sparsity: float) -> int:
    """Channels that may go from one group of a module."""
    name, side, _ = place
    count = count_removed(_channel_count(model.get_submodule(name), side), sparsity)
    return min(count // groups_of(tie, model, name, side), spare(tie, place))


def spare(tie: Tie, place: Place) -> int:
    """Channels of a place that can go so that one stays."""
    name, side, _ = place
    return tie.size[name, side] - 1


def groups_of(tie: Tie, model: nn.Module, name: str, side: Side) -> int:
    """Groups of a side of a module that must lose equally many channels."""
    return _channel_count(model.get_submodule(name), side) // tie.size[name, side]


def group_count(module: object, side: Side) -> int:
    """Groups that must keep equally many channels; the groups of a depthwise layer go whole."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups
    groups = int(getattr(module, "groups", 1)) if isinstance(module, LAYERS) else 1
    return 1 if groups == _channel_count(module, "in") == _channel_count(module, "out") else groups


def _channel_count(module: object, side: Side) -> int:
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    names = ("out_channels", "out_features") if side == "out" else ("in_channels", "in_features")
    return next((int(getattr(module, name)) for name in names if hasattr(module, name)), 0)


class _Union:
    """Disjoint sets of filters."""

    def __init__(self) -> None:
        self._parent: dict[Filter, Filter] = {}

    def root(self, one: Filter) -> Filter:
        """Representative of a filter's set."""
        known = self._parent
        parent = known.setdefault(one, one)
        while parent is not known[parent]:
            known[parent] = known[known[parent]]
            parent = known[parent]
        known[one] = parent
        return parent

    def join(self, one: Filter, other: Filter) -> None:
        """Make two sets one."""
        above, other_above = self.root(one), self.root(other)
        if above is not other_above:
            self._parent[above] = other_above

    def sets(self, *, order: Callable[[Filter], tuple[int, int]]) -> list[list[Filter]]:
        """All sets, each sorted, sorted by their first filter."""
        found: dict[Filter, list[Filter]] = {}
        for one in sorted(self._parent, key=order):
            found.setdefault(self.root(one), []).append(one)
        return list(found.values())
