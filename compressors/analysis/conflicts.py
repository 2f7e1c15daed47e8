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
    fill,
    filter_mask,
    filter_norms,
    filter_rows,
    groups_of,
    places_of,
    spare,
    take,
    width,
)
from compressors.pruning.dependency import as_edits
from compressors.pruning.ties import find_ties
from compressors.tracing import LAYERS, look_at, prefix_of
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import Edits, sketch

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
    the masks of a layer have no `bias`, its bias counts as masked with the filter. Filters of a
    layer that cannot be followed stay.

    Args:
        masks: Left as they are.
        model: The network they are for; left as it is.
        example_inputs: One batch, shape [N, K, H, W].

    Raises:
        ConfigError: A mask does not fit the model; all faults at once.
        IncompatibleModel: No layer can be followed; the text names what stands in the way.
    """
    prefix = prefix_of(model)
    _require_fitting(masks, model, prefix)
    twin = sketch(model).eval()
    look = look_at(twin, example_inputs)
    dead = {
        prefix + name: dead_filters(model.get_submodule(prefix + name), parts)
        for name, parts in masks.items()
        if isinstance(model.get_submodule(prefix + name), LAYERS)
    }
    fixed = {name: {part: mask.clone() for part, mask in m.items()} for name, m in masks.items()}
    removal, changes = Edits(), []
    ties = find_ties(twin, example_inputs, dead, look=look)
    if ties.unknown and not ties.found:
        raise IncompatibleModel(next(iter(ties.unknown.values())))
    staying = {name: (dead[name], why) for name, why in ties.unknown.items()}
    for one in ties.found:
        taken = take(one.graph, model, one.tie, lambda tie: _agreed(tie, model, dead, look.heads))
        going = [] if taken.touched is None else taken.filters
        removal = removal.merge(as_edits(taken.touched or []))
        for layer in (layer for layer in one.tie.layers if layer in dead):
            left = dead[layer].clone()
            left[[index for owner, index in going if owner == layer]] = False
            staying[layer] = (left, _reason(layer, left, taken.tie, dead, look.heads))
    for layer in (layer for layer in dead if staying[layer][0].any()):
        left, why = staying[layer]
        short = layer.removeprefix(prefix)
        _unmask(fixed[short], model.get_submodule(layer), left)
        changes.append(_sentence(short, left, why.replace(prefix, "")))
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
        used = places_of(tie, going)
        least = Counter({place: _least(tie, model, used, place) for place in used})
        going = fill(tie, masked, budget=least.__getitem__)
        if places_of(tie, going) == used:  # no place has more than the least of its kind
            return going


def _least(tie: Tie, model: nn.Module, used: Mapping[Place, int], place: Place) -> int:
    """Channels that each group of a module may lose: those of the group that loses least."""
    name, side, _ = place
    groups = range(groups_of(tie, model, name, side))
    return min(spare(tie, place), *(used.get((name, side, group), 0) for group in groups))


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
