"""Masks of tied layers made to agree, so that what is masked can be taken out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressors.pruning.coupling import (
    Filter,
    Place,
    Tie,
    closed,
    fill,
    filter_mask,
    filter_norms,
    filter_rows,
    find_tie,
    group_count,
    places_of,
    spare,
    width,
)
from compressors.pruning.dependency import ChannelGraph, as_edits
from compressors.tracing import LAYERS, find_heads, prefix_of
from core.errors import ConfigError, unknown
from models.edits import Edits

Masks = Mapping[str, Mapping[str, Tensor]]
"""Short name of a layer -> `weight`, and `bias` where it is masked too: bool, True = zero."""

SHOWN = 8
"""Filters that a sentence names."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Masks without conflicts.

    Args:
        masks: As they came, but for whole filters that cannot be taken out: those are unmasked.
        removal: Takes out every filter that is masked as a whole.
        changes: What was unmasked and why, one sentence a layer; empty where nothing was.
    """

    masks: dict[str, dict[str, Tensor]]
    removal: Edits
    changes: list[str] = field(default_factory=list)


def fix_mask_conflict(masks: Masks, model: nn.Module, example_inputs: Tensor) -> Agreement:
    """Unmask filters that have to stay because of others.

    Of layers whose outputs are added, a filter can go only where all of them mask it; of a grouped
    convolution equally many in each group; one of each layer or group stays, and so do all logits.
    Of too many, those of the smallest weights go. Masks of single entries stay as they are. Where
    the masks of a layer have no `bias`, its bias counts as masked with the filter.

    Args:
        masks: Left as they are.
        model: The network they are for; left as it is.
        example_inputs: One batch, shape [N, K, H, W].

    Raises:
        ConfigError: A mask does not fit the model; all faults at once.
        IncompatibleModel: The network cannot be followed; the text names what stands in the way.
    """
    prefix = prefix_of(model)
    _require_fitting(masks, model, prefix)
    graph = ChannelGraph(model, example_inputs)
    heads = find_heads(model, example_inputs)
    dead = {
        prefix + name: dead_filters(model.get_submodule(prefix + name), parts)
        for name, parts in masks.items()
        if isinstance(model.get_submodule(prefix + name), LAYERS)
    }
    fixed = {name: {part: mask.clone() for part, mask in m.items()} for name, m in masks.items()}
    removal, changes = Edits(), []
    seen: set[str] = set()
    for name in dead:
        if name in seen:
            continue
        tie = find_tie(graph, model, name)
        seen.update(tie.layers)
        going = _agreed(tie, model, dead, heads)
        touched = closed(graph, tie, going)
        if touched is None:  # filters of one layer are tied to each other
            tie = find_tie(graph, model, name, one_by_one=True)
            going = _agreed(tie, model, dead, heads)
            touched = closed(graph, tie, going)
        if touched is None:
            going, touched = [], []
        removal = removal.merge(as_edits(touched))
        for layer in (layer for layer in tie.layers if layer in dead):
            staying = dead[layer].clone()
            staying[[index for owner, index in going if owner == layer]] = False
            if staying.any():
                short = layer.removeprefix(prefix)
                _unmask(fixed[short], model.get_submodule(layer), staying)
                why = _reason(layer, staying, tie, dead, heads).replace(prefix, "")
                changes.append(_sentence(short, staying, why))
    return Agreement(masks=fixed, removal=removal, changes=changes)


def dead_filters(layer: nn.Module, masks: Mapping[str, Tensor]) -> Tensor:
    """Which filters are masked as a whole, bool [filters].

    Example:
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> dead_filters(nn.Linear(2, 2), {"weight": mask}).tolist()
        [True, False]
    """
    if "weight" not in masks:
        return torch.zeros(width(layer), dtype=torch.bool)
    dead = filter_rows(layer, masks["weight"]).bool().all(dim=1).cpu()
    return dead & masks["bias"].cpu() if "bias" in masks else dead


def _agreed(
    tie: Tie, model: nn.Module, dead: Mapping[str, Tensor], heads: list[str]
) -> list[Filter]:
    """Filters that go: masked in every layer of the tie, and equally many in each group."""
    if any(layer in heads for layer in tie.layers):
        return []
    masked = [b for b in tie.bundles if all(n in dead and bool(dead[n][i]) for n, i in b)]
    norms = {name: filter_norms(model.get_submodule(name)).tolist() for name in tie.layers}
    masked.sort(key=lambda bundle: sum(norms[name][index] for name, index in bundle))
    going = [one for bundle in masked for one in bundle]
    while True:
        used = places_of(tie, model, going)
        least = Counter({place: _least(model, used, place) for place in used})
        going = fill(tie, model, masked, budget=least.__getitem__)
        if places_of(tie, model, going) == used:  # no place has more than the least of its kind
            return going


def _least(model: nn.Module, used: Mapping[Place, int], place: Place) -> int:
    """Channels that each group of a module may lose: those of the group that loses least."""
    name, side, _ = place
    groups = range(group_count(model.get_submodule(name), side))
    return min(spare(model, place), *(used.get((name, side, group), 0) for group in groups))


def _unmask(parts: dict[str, Tensor], layer: nn.Module, staying: Tensor) -> None:
    for part, entries in filter_mask(layer, staying).items():
        if part in parts:
            parts[part] &= ~entries.to(parts[part].device)


def _reason(
    layer: str, staying: Tensor, tie: Tie, dead: Mapping[str, Tensor], heads: list[str]
) -> str:
    """What keeps filters of a layer, as the end of a sentence."""
    if any(name in heads for name in tie.layers):
        return "they make the logits"
    asked = {(layer, index) for index in staying.nonzero().flatten().tolist()}
    keeping = {
        name: None
        for bundle in tie.bundles
        if asked & set(bundle)
        for name, index in bundle
        if name not in dead or not dead[name][index]
    }
    if keeping:
        return f"tied to filters that are not masked, of {', '.join(keeping)}"
    return "one has to, and equally many in each group"


def _sentence(layer: str, staying: Tensor, why: str) -> str:
    indices = staying.nonzero().flatten().tolist()
    shown = ", ".join(map(str, indices[:SHOWN]))
    more = f" and {len(indices) - SHOWN} more" if len(indices) > SHOWN else ""
    return f"{layer}: filters {shown}{more} stay, {why}"


def _require_fitting(masks: Masks, model: nn.Module, prefix: str) -> None:
    modules = dict(model.named_modules())
    faults = []
    for name, parts in masks.items():
        if prefix + name not in modules:
            known = [n.removeprefix(prefix) for n in modules if n.startswith(prefix) and n]
            faults.append(unknown("layer", name, known))
            continue
        own = dict(modules[prefix + name].named_parameters(recurse=False))
        for part, mask in parts.items():
            shape = list(own[part].shape) if part in own else None
            if mask.dtype != torch.bool or list(mask.shape) != shape:
                faults.append(
                    f"{name}.{part}: expected a bool mask of shape {shape}, got {mask.dtype} "
                    f"{list(mask.shape)}"
                )
    if faults:
        raise ConfigError(faults)
