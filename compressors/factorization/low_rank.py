"""Layers of low rank: several thin ones in the place of a thick one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, cast, get_args

from torch import Tensor, nn

from compressors.amount import ROUNDING
from compressors.base import Compressor, Decision, Task
from compressors.factorization.ranks import (
    Split,
    Thick,
    splits_at,
    thick,
    total_macs,
    watched,
    within_budget,
)
from compressors.pruning.filters import names_of
from compressors.pruning.trial import why_not
from compressors.selection import sparsity_faults
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import Edits, history
from models.factorized import Factorized, Method, why_whole
from models.replacements import why_bound

Choice = Literal["auto", "svd", "tucker2", "spatial"]

WHOLE = "left whole"


def _share_faults(name: str, what: str) -> Callable[[Any], Iterator[str]]:
    def faults(value: Any) -> Iterator[str]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value <= 1):
            yield f"{name} is {what}, in (0, 1], got {value!r}"

    return faults


def _budget_faults(sparsity: Any) -> Iterable[str]:
    return () if sparsity is None else sparsity_faults(sparsity)


class LowRank(Compressor):
    """Puts factors of low rank in the place of layers, where that saves multiplications.

    Linear layers and 1 x 1 convolutions are split by SVD. How much is said in one of three ways.

    Args:
        method: For larger kernels: `svd`, `tucker2`, `spatial`, or `auto`: of these, layer by
            layer, the one with the fewest multiplications at the same energy.
        sparsity: Fraction to remove of the multiply-accumulates of all layers together that are
            selected with this number and can be split; one energy for all of them.
        energy: Share of the squared weights of each layer that stays at least.
        rank_ratio: Fraction of the full ranks that stays.
        **selection: Those of Compressor.

    Reference:
        Denton et al., NeurIPS 2014; Jaderberg et al., BMVC 2014; Kim et al., ICLR 2016; one
        energy for all layers as in Zhang et al., Accelerating Very Deep Convolutional Networks
        for Classification and Detection, PAMI 2016, section 3.3, without its search.
    """

    treatable: ClassVar = ("Conv2d", "Linear")
    default_types: ClassVar = treatable
    amounts: ClassVar = {
        "sparsity": _budget_faults,
        "energy": _share_faults("energy", "the share of the squared weights that stays"),
        "rank_ratio": _share_faults("rank_ratio", "the fraction of the full ranks that stays"),
    }

    def __init__(
        self, *, method: Choice = "auto", config_list: Any = None, **selection: Any
    ) -> None:
        super().__init__(config_list=_own_amounts(config_list), **selection)
        self.method = method
        faults = [
            f"{key}: {fault}" for key, e in self.entries.items() for fault in _amount_faults(e)
        ]
        if method not in get_args(Choice):
            faults.append(unknown("compressor.method", method, get_args(Choice)))
        elif method == "auto" and any(_amount(e)[0] == "rank_ratio" for e in self.entries.values()):
            faults.append(
                "rank_ratio is another rank in each method: give compressor.method=svd, tucker2 or "
                "spatial"
            )
        if faults:
            raise ConfigError(faults)

    def options(self) -> dict[str, Any]:
        """How kernels are split."""
        return {"method": self.method}

    def decide(self, task: Task) -> Decision:
        """Look at the singular values of each layer, and choose ranks where that saves."""
        layers, notes = self._layers(task)
        splits: dict[str, Split] = {}
        for (key, value), names in _pools(task, layers).items():
            splits |= _chosen({name: layers[name] for name in names}, key, value)
        thin = [name for name in layers if name not in splits]
        if thin:
            notes.append(
                f"{names_of(task, thin)}: {WHOLE}, no factors that keep enough save anything"
            )
        notes += _filled_zeros(task, splits)
        if splits:
            notes.append(_summary(layers, splits))
        target = f"{Factorized.__module__}.{Factorized.__qualname__}"
        replaced = {
            task.prefix + name: {
                "_target_": target,
                "method": split.method,
                "ranks": list(split.ranks),
            }
            for name, split in splits.items()
        }
        edits = Edits(replaced=replaced)
        failure = why_not(task.model, edits, task.example_inputs)
        if failure:
            raise IncompatibleModel(f"{failure}; name what it needs whole in compressor.exclude")
        return Decision(edits=edits, notes=notes)

    def _layers(self, task: Task) -> tuple[dict[str, Thick], list[str]]:
        """What can be split, and sentences about the rest."""
        names = task.selection.layers
        calls = watched(task.model, [task.prefix + name for name in names], task.example_inputs)
        layers: dict[str, Thick] = {}
        whole: dict[str, list[str]] = {}
        for name in names:
            layer, uses = task.layer(name), calls[task.prefix + name]
            if not bool(cast(Tensor, layer.weight).isfinite().all()):
                raise IncompatibleModel(f"{name}: weights that are not finite have no ranks")
            obstacle = _obstacle(task, layer) or (
                "" if uses else "it takes no part in the forward pass"
            )
            if obstacle:
                whole.setdefault(obstacle, []).append(name)
            else:
                layers[name] = thick(layer, self._methods(layer), uses)
        return layers, [f"{names_of(task, some)}: {WHOLE}, {why}" for why, some in whole.items()]

    def _methods(self, layer: nn.Module) -> tuple[Method, ...]:
        """Ways to split a layer; without a kernel there is one."""
        if isinstance(layer, nn.Linear) or max(cast(nn.Conv2d, layer).kernel_size) == 1:
            return ("svd",)
        if self.method == "auto":
            return cast(tuple[Method, ...], get_args(Method))
        return (self.method,)


def _own_amounts(config_list: Any) -> Any:
    """Entries that say how much in a way of their own do not inherit another one."""
    if not isinstance(config_list, list | tuple):
        return config_list
    blank = dict.fromkeys(LowRank.amounts)
    return [
        {**blank, **entry} if isinstance(entry, Mapping) and blank.keys() & entry else entry
        for entry in config_list
    ]


def _amount(entry: Mapping[str, Any]) -> tuple[str, float]:
    """Which of the amounts an entry has, and its value."""
    return next(((k, entry[k]) for k in LowRank.amounts if entry.get(k) is not None), ("", 0.0))


def _amount_faults(entry: Mapping[str, Any]) -> Iterator[str]:
    given = [f"{key}={entry[key]}" for key in LowRank.amounts if entry.get(key) is not None]
    if len(given) != 1 and not entry.get("exclude"):
        yield (
            "give one of sparsity, energy and rank_ratio, and null for the others, got "
            f"{' and '.join(given) or 'none'}"
        )


def _pools(task: Task, layers: Iterable[str]) -> dict[tuple[str, float], list[str]]:
    """Layers by how much is asked of them."""
    pools: dict[tuple[str, float], list[str]] = {}
    for name in layers:
        pools.setdefault(_amount(task.selection.entries[name]), []).append(name)
    return pools


def _chosen(layers: Mapping[str, Thick], key: str, value: float) -> dict[str, Split]:
    """Splits of layers of which the same is asked."""
    if key == "energy":
        return splits_at(layers, value)
    if key == "rank_ratio":
        found = {name: layer.at_ratio(value) for name, layer in layers.items()}
        return {name: split for name, split in found.items() if split is not None}
    macs = total_macs(layers, {})
    splits = within_budget(layers, int(macs * (1 - value) + ROUNDING))
    if splits is None:
        least = 1 - total_macs(layers, splits_at(layers, 0.0)) / macs
        raise IncompatibleModel(
            f"rank 1 in every layer removes {least:.4f} of the multiplications, less than "
            f"sparsity={value:g}"
        )
    return splits


def _obstacle(task: Task, layer: nn.Module) -> str:
    """Why a layer stays as it is; empty where it can be split."""
    why = why_whole(layer)
    if why:
        return why
    if not bool(cast(Tensor, layer.weight).any()):
        return "its weights are zero"
    return why_bound(task.model, layer)


def _filled_zeros(task: Task, splits: Iterable[str]) -> list[str]:
    """A sentence about layers whose weights were zeroed for good by an earlier step."""
    masked = {name for step in history(task.model) for name in step.masked}
    filled = [name for name in splits if f"{task.prefix}{name}.weight" in masked]
    if not filled:
        return []
    return [f"{names_of(task, filled)}: the factors have no zeros where an earlier step made some"]


def _summary(layers: Mapping[str, Thick], splits: Mapping[str, Split]) -> str:
    methods = ", ".join(sorted({split.method for split in splits.values()}))
    left = total_macs(layers, splits) / total_macs(layers, {})
    return (
        f"{len(splits)} of {len(layers)} layers are split ({methods}), {left:.3f} of their "
        "multiplications stay; latency falls less, since more and thinner layers run"
    )
