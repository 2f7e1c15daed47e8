"""What a configuration says is to be done to the baseline, and what is wrong with it.

Who only refuses a recipe imports torch for it, and not what trains and measures.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from compressors.base import Compressor
from core.configuration import check_types, plain
from core.errors import ConfigError
from core.targets import build, resolve

STEPS = ("compressor", "finetune", "then")
"""Slots of a recipe in the order they are carried out."""

STRENGTHS = {
    "sparsity": "",
    "final_sparsity": "",
    "quant_bits": "bits_",
    "flops_ratio": "macs_kept_",
    "energy": "energy_kept_",
    "rank_ratio": "ranks_kept_",
}
"""Parameters that say how much a step does, and what a label calls them: a number alone is what is
removed. The first that is set is shown; of a pattern, n of m."""


def recipe_of(config: DictConfig) -> dict[str, Any]:
    """What is done to the baseline, as plain data; steps that do nothing are left out."""
    slots = {slot: plain(config[slot]) for slot in STEPS if config.get(slot) is not None}
    steps = {name: step for slot in slots for name, step in steps_of(slot, slots[slot]).items()}
    return {name: step for name, step in steps.items() if set(step) - {"name"}}


def steps_of(slot: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """The step of a slot, or the several that a file puts into one, in the order it lists them.

    Example:
        >>> steps_of("then", {"_target_": "compressors.deploy.ort.Ort", "name": "ort"}).keys()
        dict_keys(['then'])
        >>> steps_of("compressor", {"first": {"name": "level"}, "second": {"name": "ort"}}).keys()
        dict_keys(['compressor.first', 'compressor.second'])
    """
    inner = {} if "_target_" in node else {k: v for k, v in node.items() if is_step(v)}
    return {f"{slot}.{key}": step for key, step in inner.items()} or {slot: node}


def is_step(value: Any) -> bool:
    """Whether a value of a slot is a step of its own: such a step has a name."""
    return isinstance(value, Mapping) and "name" in value


def recipe_name(config: DictConfig) -> str:
    """Short name of a recipe, `l1_filter+short`; `none` for no recipe."""
    return "+".join(step["name"] for step in recipe_of(config).values()) or "none"


def recipe_label(config: DictConfig) -> str:
    """Name of a recipe with how much it does, `level_0.5+short`; `none` for no recipe."""
    return "+".join(_label(step) for step in recipe_of(config).values()) or "none"


def learns_from_data(recipe: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a step of a recipe trains or is decided by data: that which `tuning` names."""
    targets = [step.get("_target_") for step in recipe.values()]  # a training has none
    kinds = [resolve(target, expects=Compressor) for target in targets if target]
    return not all(targets) or any(kind.needs - {"seed"} for kind in kinds)


def require_recipe(config: DictConfig) -> None:
    """Refuse a recipe with faults; types that are wrong are left to `check_types`.

    Raises:
        ConfigError: With every fault of the recipe.
    """
    faults = [] if check_types(config) else list(recipe_faults(config))
    if faults:
        raise ConfigError(faults)


def recipe_faults(config: DictConfig) -> Iterator[str]:
    """What is wrong with the slots of a recipe and its steps."""
    yield from _slot_faults(config)
    yield from _step_faults(recipe_of(config))


def _step_faults(recipe: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the steps themselves, and with one that is behind another runtime."""
    deployed = ""
    for slot, step in recipe.items():
        if deployed:
            yield (
                f"{slot}={step['name']} comes after {deployed}: what that gives has no layers to "
                "treat or train; deploy last"
            )
        if step.get("optimize_mode") == "minimize":
            yield (
                f"{step['name']}.optimize_mode=minimize: the score of a recipe is an accuracy, and "
                "the worst network would come out; from Python a score may be a loss"
            )
        if "_target_" not in step:
            continue
        try:
            runtime = build(step, expects=Compressor).runtime
        except ConfigError as error:
            yield from error.faults
        else:
            if runtime != "torch" and not deployed:
                deployed = f"{slot}={step['name']}, which {runtime} runs"


def _slot_faults(config: DictConfig) -> Iterator[str]:
    for slot in STEPS:
        node = {} if config.get(slot) is None else plain(config[slot])
        steps = steps_of(slot, node)
        for key, step in steps.items():
            yield from _form_faults(key, step)
        if slot not in steps:  # several steps
            alien = [key for key, value in node.items() if not is_step(value)]
            yield from (f"{slot}.{key} is no step: steps have a name" for key in alien)


def _form_faults(slot: str, step: Mapping[str, Any]) -> Iterator[str]:
    name = step.get("name")
    if not isinstance(name, str) or not name:
        yield f"{slot} needs a name, which run ids are made of; its yaml gives {sorted(step)}"
    elif (name == "none") != (set(step) == {"name"}):
        yield f"{slot}.name={name!r} and {slot} has {sorted(step)}: only none does nothing"
    elif slot in ("compressor", "then") and name != "none" and "_target_" not in step:
        yield f"{slot}={name} has no _target_; training alone stands in the slot finetune"


def _label(step: Mapping[str, Any]) -> str:
    target = step.get("_target_")
    how = resolve(target, expects=Compressor).computes(step) if target else ""
    return "_".join(filter(None, (step["name"], _strength(step), how)))


def _strength(step: Mapping[str, Any]) -> str:
    """How much a step does, as a label says it; empty where it does not say."""
    if {"n", "m"} <= step.keys():
        return f"{step['n']}:{step['m']}"
    given = ((called, step.get(name)) for name, called in STRENGTHS.items())
    return next((called + _amount(value) for called, value in given if value is not None), "")


def _amount(value: Any) -> str:
    """A number, or one for each part."""
    if isinstance(value, Mapping):
        return "_".join(f"{part}_{_amount(number)}" for part, number in value.items())
    return f"{value:g}" if isinstance(value, int | float) else str(value)
