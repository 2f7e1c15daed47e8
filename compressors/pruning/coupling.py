"""Filters that have to go together, ranked and chosen.

Layers tied by an addition lose the same channels, a layer behind a concatenation those of its
part, a grouped convolution equally many in each group. All of it follows from the union of filters
that the dependency graph ties, and a budget for each place where a number is prescribed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.pruning.dependency import Followed, Touched
from compressors.tracing import LAYERS
from models.edits import Side

Filter = tuple[str, int]
"""Layer and output channel."""

Place = tuple[str, Side, int]
"""Module, side and group there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tie:
    """Layers whose filters are tied, with all that hangs on them.

    Args:
        layers: Full names; the first is the one that was asked for.
        bundles: Filters that go together or not at all, in the order of the layers.
        places: Where equally many channels have to go, or not all may.
        cost: Channels that go from each place with each bundle, [bundles, places].
        size: Side of a module -> channels of each of its groups, which lose equally many; of all
            groups together where they go whole or not at all.
    """

    layers: list[str]
    bundles: list[list[Filter]]
    places: list[Place]
    cost: np.ndarray = field(repr=False)
    size: Mapping[tuple[str, Side], int]

    @cached_property
    def row(self) -> dict[Filter, int]:
        """First filter of a bundle -> the bundle's row in `cost`."""
        return {bundle[0]: row for row, bundle in enumerate(self.bundles)}


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


def find_tie(
    graph: Followed,
    model: nn.Module,
    layer: str,
    *,
    one_by_one: bool = False,
    believed: bool = False,
) -> Tie:
    """Everything tied to the filters of `layer`, directly or through others.

    Args:
        graph: Of `model`.
        model: The network.
        layer: Full name.
        one_by_one: Ask for each filter alone: slow, but it finds filters of one layer that are
            tied to each other. Asked for all filters at once, the graph drops what it has seen.
        believed: Ask no layer all of whose filters came up already: sooner, where the removal
            itself is going to be tried out.

    Raises:
        IncompatibleModel: A module on the way cannot lose channels.
    """
    layers, hanging = _followed(graph, model, layer, one_by_one=one_by_one, believed=believed)
    filters = [(name, i) for name in layers for i in range(width(model.get_submodule(name)))]
    start = {name: number for number, (name, i) in enumerate(filters) if i == 0}
    root = [start[name] + np.array(item.roots) for name, item in hanging]
    tied = [
        np.stack([roots, start[item.name] + np.array(item.channels)])
        for roots, (_, item) in zip(root, hanging, strict=True)
        if item.side == "out" and item.name in start
    ]
    bundle_of = _sets(len(filters), np.concatenate(tied, axis=1))
    bundles: list[list[Filter]] = [[] for _ in range(int(bundle_of.max()) + 1)]
    for one, bundle in zip(filters, bundle_of.tolist(), strict=True):
        bundles[bundle].append(one)
    gone: dict[tuple[str, Side], list[np.ndarray]] = {}
    for roots, (_, item) in zip(root, hanging, strict=True):
        pairs = np.stack([bundle_of[roots], np.array(item.channels)])
        gone.setdefault((item.name, item.side), []).append(pairs)
    counts = {key: _Counts(model, key, pairs, len(bundles)) for key, pairs in gone.items()}
    return Tie(
        layers=layers,
        bundles=bundles,
        places=[(*key, group) for key, one in counts.items() for group in range(one.groups)],
        cost=np.concatenate([one.cost for one in counts.values()], axis=1),
        size={key: one.size for key, one in counts.items()},
    )


def _followed(
    graph: Followed, model: nn.Module, layer: str, *, one_by_one: bool, believed: bool
) -> tuple[list[str], list[tuple[str, Touched]]]:
    """Layers of a tie, and all that counts of what goes with the filters of each of them."""
    layers: list[str] = [layer]
    hanging: list[tuple[str, Touched]] = []
    met: dict[str, set[int]] = {}
    for name in layers:  # grows
        filters = range(width(model.get_submodule(name)))
        if believed and len(met.get(name, ())) == len(filters):
            continue
        for some in [[i] for i in filters] if one_by_one else [filters]:
            for item in graph.touched(name, some):
                module = graph.module(item.name)
                tied = item.side == "out" and isinstance(module, LAYERS)
                if tied and item.name not in layers:
                    layers.append(item.name)
                if tied and believed:
                    met.setdefault(item.name, set()).update(item.channels)
                if tied or group_count(module, item.side) > 1:
                    hanging.append((name, item))
    return layers, hanging


def _sets(count: int, edges: np.ndarray) -> np.ndarray:
    """Which set each of `count` elements is in, numbered by their first elements.

    Args:
        count: Of elements.
        edges: Pairs that are in one set, [2, pairs].
    """
    from scipy.sparse import coo_array  # here: half a second, and not for a refusal
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(edges.shape[1], dtype=bool)
    graph = coo_array((ones, tuple(edges)), shape=(count, count))
    _, found = connected_components(graph, directed=False)
    _, first = np.unique(found, return_index=True)
    place = np.empty_like(first)
    place[np.argsort(first)] = np.arange(len(first))
    return np.asarray(place[found])


class _Counts:
    """How many channels of each group of a side of a module go with each bundle.

    Args:
        model: The network.
        key: Module and side.
        pairs: Bundle and channel that goes with it, each [2, channels].
        bundles: How many there are.
    """

    def __init__(
        self, model: nn.Module, key: tuple[str, Side], pairs: list[np.ndarray], bundles: int
    ) -> None:
        module, side = model.get_submodule(key[0]), key[1]
        whole, parts = _channel_count(module, side), group_count(module, side)
        flat = np.unique(np.concatenate([bundle * whole + channel for bundle, channel in pairs]))
        self._bundle, self._channel, self._bundles = flat // whole, flat % whole, bundles
        self.groups, self.size = parts, whole // parts
        self.cost = self._counted()
        if not (self.cost % self.size).any():  # groups go whole or not at all
            self.groups, self.size = 1, whole
            self.cost = self._counted()

    def _counted(self) -> np.ndarray:
        cells = self._bundle * self.groups + self._channel // self.size
        return np.bincount(cells, minlength=self._bundles * self.groups).reshape(-1, self.groups)


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
    chosen, layers = set(filters), set(tie.layers)
    touched: list[Touched] = []
    met: set[Filter] = set()
    for name in tie.layers:
        asked = [i for layer, i in filters if layer == name and (layer, i) not in met]
        items = graph.touched(name, asked)
        touched += items
        met |= {
            (t.name, i) for t in items if t.side == "out" and t.name in layers for i in t.channels
        }
    return None if met - chosen else touched


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
    bundles = list(bundles)
    costs = tie.cost[[tie.row[bundle[0]] for bundle in bundles]]
    left = np.array([budget(place) for place in tie.places])
    if len(bundles) and (costs == costs[0]).all():
        counting = costs[0] > 0
        lasting = int((left[counting] // costs[0][counting]).min())
        return [one for bundle in bundles[:lasting] for one in bundle]
    chosen: list[Filter] = []
    for bundle, cost in zip(bundles, costs, strict=True):
        if (cost <= left).all():
            left = left - cost
            chosen += bundle
    return chosen


def places_of(tie: Tie, filters: Iterable[Filter]) -> Counter[Place]:
    """How many channels go from each place with some bundles, given as their filters."""
    rows = [tie.row[one] for one in filters if one in tie.row]
    return Counter(dict(zip(tie.places, tie.cost[rows].sum(axis=0).tolist(), strict=True)))


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
