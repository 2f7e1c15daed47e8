"""Which layers a recipe treats, and how much: the meaning of `config_list`."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from core.errors import ConfigError, unknown

LAYER_KEYS = ("op_types", "op_names", "exclude")
DEFAULT = "default"

Amounts = Mapping[str, Callable[[Any], Iterable[str]]]
"""What an entry has to say beside which layers: key -> what is wrong with its value."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Layers by name, in the model's order.

    Args:
        sparsity: Layer -> fraction of it to remove, in [0, 1).
        excluded: Layers that an entry with `exclude: true` names; they must stay as they are.
        spared_heads: Layers that would be treated if they did not make the logits.
        entries: Layer -> the entry that decided about it.
    """

    sparsity: dict[str, float]
    excluded: frozenset[str] = frozenset()
    spared_heads: tuple[str, ...] = ()
    entries: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Names of all layers that are treated."""
        return list(self.entries)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What there is to choose from.

    Args:
        layers: Every module of the model by name.
        treatable: Class names the compressor can treat; subclasses count.
        default_types: What `default` means in `op_types`, and what no `op_types` means.
        heads: Layers that make the logits: taken only where an entry names one without a glob.
    """

    layers: Mapping[str, nn.Module]
    treatable: Collection[str]
    default_types: Collection[str]
    heads: Collection[str] = ()

    def of_types(self, types: Collection[str]) -> list[str]:
        """Names of the layers of these types, in the model's order."""
        wanted = {t for name in types for t in (self.default_types if name == DEFAULT else [name])}
        return [name for name, module in self.layers.items() if class_names(module) & wanted]


def class_names(module: nn.Module) -> set[str]:
    """Names of a module's class and of all it inherits from: a `Conv2dSame` is a `Conv2d`."""
    return {kind.__name__ for kind in type(module).__mro__}


def entries_of(
    config_list: Any, *, op_types: Any, op_names: Any, exclude: Any, **amounts: Any
) -> dict[str, Any]:
    """Entries of the long form, or of the short one, each under the key it was given by.

    An entry without an amount takes the short form's; the short form's `exclude` comes last.

    Raises:
        ConfigError: Both forms say which layers, or `config_list` is no list.

    Example:
        >>> entries_of(None, sparsity=0.5, op_types=None, op_names=None, exclude=["fc"])
        {'compressor': {'sparsity': 0.5},
         'compressor.exclude': {'op_names': ['fc'], 'exclude': True}}
    """
    short = {**amounts, "op_types": op_types, "op_names": op_names}
    given = {key: value for key, value in short.items() if value is not None}
    entries: dict[str, Any] = {"compressor": given}
    if config_list is not None:
        faults = [
            f"compressor.{key} and compressor.config_list both say which layers: give one"
            for key in ("op_types", "op_names")
            if key in given
        ]
        if not _is_list(config_list) or len(config_list) == 0:
            faults.append(f"compressor.config_list is a list of entries, got {config_list!r}")
        if faults:
            raise ConfigError(faults)
        entries = {
            f"compressor.config_list[{index}]": _with_default(entry, given)
            for index, entry in enumerate(config_list)
        }
    if exclude is not None:
        entries["compressor.exclude"] = {"op_names": exclude, "exclude": True}
    return entries


def check_form(entries: Mapping[str, Any], amounts: Amounts | None = None) -> None:
    """Check what can be checked without a model.

    Args:
        entries: From `entries_of`.
        amounts: What each of them has to say; left out: `sparsity`.

    Raises:
        ConfigError: All faults of all entries at once.
    """
    said = {"sparsity": sparsity_faults} if amounts is None else amounts
    _raise_all(entries, lambda entry: _form_faults(entry, said))


def select(entries: Mapping[str, Any], catalogue: Catalogue) -> Selection:
    """Decide what happens to each layer; a later entry overrides an earlier one.

    `op_names` overrides `op_types` within an entry; globs match whole names.

    Raises:
        ConfigError: All faults of all entries at once.
    """
    _raise_all(entries, lambda entry: _match_faults(entry, catalogue))
    chosen: dict[str, Mapping[str, Any]] = {}
    excluded: set[str] = set()
    spared: set[str] = set()
    for entry in entries.values():
        for name in _matches(entry, catalogue):
            if entry.get("exclude"):
                chosen.pop(name, None)
                excluded.add(name)
            elif name in catalogue.heads and name not in (entry.get("op_names") or ()):
                spared.add(name)
            else:
                chosen[name] = entry
                excluded.discard(name)
    ordered = {name: chosen[name] for name in catalogue.layers if name in chosen}
    return Selection(
        sparsity={
            name: float(entry["sparsity"])
            for name, entry in ordered.items()
            if entry.get("sparsity") is not None
        },
        excluded=frozenset(excluded),
        spared_heads=tuple(sorted(spared - set(chosen) - excluded)),
        entries=ordered,
    )


def _with_default(entry: Any, given: Mapping[str, Any]) -> Any:
    if not isinstance(entry, Mapping) or entry.get("exclude"):
        return entry
    return {**given, **entry}


def _matches(entry: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    """Layers that a faultless entry speaks about."""
    if not entry.get("op_names"):
        return catalogue.of_types(entry.get("op_types") or [DEFAULT])
    treatable = catalogue.of_types(catalogue.treatable)
    return [n for n in treatable if any(fnmatchcase(n, glob) for glob in entry["op_names"])]


def _raise_all(entries: Mapping[str, Any], faults_of: Callable[[Any], Iterable[str]]) -> None:
    """Raise the faults of all entries, each with the key it belongs to."""
    faults = [f"{key}: {fault}" for key, entry in entries.items() for fault in faults_of(entry)]
    if faults:
        raise ConfigError(faults)


def _form_faults(entry: Any, amounts: Amounts) -> Iterator[str]:
    """What is wrong with one entry for any model."""
    if not isinstance(entry, Mapping):
        yield f"an entry has keys such as sparsity and op_types, got {entry!r}"
        return
    keys = (*amounts, *LAYER_KEYS)
    yield from (unknown("key", key, keys) for key in entry if key not in keys)
    exclude = entry.get("exclude")
    if exclude is not None and not isinstance(exclude, bool):
        yield f"exclude is true or false, got {exclude!r}"
    elif not exclude:
        for key, faults_of in amounts.items():
            yield from faults_of(entry.get(key))
    elif not entry.get("op_names") and not entry.get("op_types"):
        yield "exclude: true needs op_names or op_types: what is to be left alone?"
    for key in ("op_types", "op_names"):
        if entry.get(key) is not None and not _is_name_list(entry[key]):
            yield f"{key} is a list of names, got {entry[key]!r}"


def _match_faults(entry: Mapping[str, Any], catalogue: Catalogue) -> Iterator[str]:
    """What is wrong with an entry of good form for this model."""
    if entry.get("op_names"):
        yield from _name_faults(entry["op_names"], catalogue)
    else:
        yield from _type_faults(entry.get("op_types") or [DEFAULT], catalogue)


def sparsity_faults(sparsity: Any) -> Iterator[str]:
    """Say what is wrong with a fraction to remove.

    Example:
        >>> list(sparsity_faults(1))
        ['sparsity is the fraction removed, in [0, 1): 1 would leave nothing of a layer, got 1']
    """
    if sparsity is None:
        yield "sparsity, the fraction to remove, is missing"
    elif isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
        yield f"sparsity is a number in [0, 1), got {sparsity!r}"
    elif sparsity >= 1:
        yield (
            "sparsity is the fraction removed, in [0, 1): 1 would leave nothing of a layer, "
            f"got {sparsity}"
        )
    elif not sparsity >= 0:
        yield f"sparsity is the fraction removed, in [0, 1), got {sparsity}"


def _name_faults(globs: Sequence[str], catalogue: Catalogue) -> Iterator[str]:
    treatable = catalogue.of_types(catalogue.treatable)
    for glob in globs:
        if any(fnmatchcase(name, glob) for name in treatable):
            continue
        others = [name for name in catalogue.layers if name and fnmatchcase(name, glob)]
        if not others:
            yield unknown("layer", glob, treatable)
            continue
        kind = type(catalogue.layers[others[0]]).__name__
        inside = [name for name in treatable if name.startswith(f"{others[0]}.")]
        advice = f"; for what is inside it: {others[0]}.*" if inside else ""
        types = ", ".join(sorted(catalogue.treatable))
        yield f"{others[0]!r} is a {kind}, this compressor treats {types}{advice}"


def _type_faults(types: Sequence[str], catalogue: Catalogue) -> Iterator[str]:
    strange = [name for name in types if name not in {*catalogue.treatable, DEFAULT}]
    yield from (unknown("op_type", name, [*catalogue.treatable, DEFAULT]) for name in strange)
    if not strange and not catalogue.of_types(types):
        there = sorted({type(module).__name__ for module in catalogue.layers.values()})
        meant = list(catalogue.default_types) if list(types) == [DEFAULT] else list(types)
        yield f"no layer of op_types {meant}; the model has {', '.join(there)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_name_list(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and all(isinstance(name, str) for name in value)
