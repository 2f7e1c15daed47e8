"""Looks at a model before it is compressed, as `analyse` of a configuration says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from compressors.analysis.counting import count_flops_params
from compressors.analysis.dependency import channel_dependency
from compressors.analysis.sensitivity import Stop, sensitivity_analysis
from compressors.base import Compressor
from compressors.pruning.filters import L1Filter
from compressors.selection import sparsity_faults
from core.configuration import plain
from core.digest import digest
from core.names import slug
from core.targets import build
from evaluation.compression import EXAMPLES
from evaluation.library import build_model
from evaluation.recipe import recipe_of
from evaluation.resources import resources_for
from evaluation.validate import require_fitting
from models.base_model import ClassifierModule
from models.examples import example_images
from recording.loop import threads_set
from recording.recorder import Recorder

KINDS = ("sensitivity", "dependency", "cost")

STOPS = ("minimum", "maximum", "drop", "rise")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What was found out about a model.

    Args:
        kind: One of `KINDS`.
        model: Its name.
        folder: Where files about it belong.
        found: JSON: the fields of `Sensitivity`, `Dependencies` or `ModelCost`.
        csv: Its table.
        notes: What a reader has to know, as sentences.
    """

    kind: str
    model: str
    folder: Path
    found: dict[str, Any]
    csv: str
    notes: list[str] = field(default_factory=list)


def analyse(config: DictConfig) -> Analysis:
    """Look at the model that a valid configuration names; a recipe only says how to look."""
    pl.seed_everything(config.seed, workers=True, verbose=False)
    recorder = Recorder.from_config(config)
    with threads_set(config.threads):
        model = build_model(config.model, config.model_name, config.trainer)
        looks = {"sensitivity": _sensitivity, "dependency": _dependency, "cost": _cost}
        found, csv, notes = looks[config.analyse](model, config, recorder)
    identity = {"model": recorder.fingerprint(model), "found": found}
    name = f"{config.analyse}-{slug(config.model_name)}-{digest(identity)[:10]}"
    return Analysis(
        kind=config.analyse,
        model=config.model_name,
        folder=recorder.layout.root / "analyses" / name,
        found=found,
        csv=csv,
        notes=notes,
    )


def sensitivity_faults(config: DictConfig) -> list[str]:
    """Sentences about what is wrong with `sensitivity` and the recipe that says how to prune."""
    options = plain(config.sensitivity)
    faults = []
    sparsities = options["sparsities"]
    if not isinstance(sparsities, list) or not sparsities:
        faults.append(f"sensitivity.sparsities is a list of numbers in [0, 1), got {sparsities!r}")
    else:
        told = (fault for sparsity in sparsities for fault in sparsity_faults(sparsity))
        faults += [f"sensitivity.sparsities: {fault}" for fault in told]
    faults += [
        f"sensitivity.{key} is a number or null, got {options[key]!r}"
        for key in STOPS
        if options[key] is not None and not isinstance(options[key], int | float)
    ]
    steps = [step for name, step in recipe_of(config).items() if name.startswith("compressor")]
    if len(steps) > 1 or not all("sparsity" in step for step in steps):
        faults.append(
            "analyse=sensitivity prunes each layer by one compressor that has a sparsity, such as "
            f"l1_filter; got {' and '.join(step['name'] for step in steps)}"
        )
    return faults


def _sensitivity(
    model: ClassifierModule, config: DictConfig, recorder: Recorder
) -> tuple[dict[str, Any], str, list[str]]:
    require_fitting(model, config, recorder)
    options = plain(config.sensitivity)
    resources = resources_for(model, config, recorder)
    found = sensitivity_analysis(
        model,
        example_images(model, EXAMPLES),
        resources.score,
        criterion=_Criterion(recipe_of(config).get("compressor")),
        sparsities=options["sparsities"],
        stop=Stop(**{key: options[key] for key in STOPS}),
        resources=resources,
    )
    limits = [f"{key}={options[key]:g}" for key in STOPS if options[key] is not None]
    ends = f"a row ends with the first score past {' or '.join(limits)}"
    notes = [
        f"accuracy on the score part of {config.tuning.dataset}; the model as it is: "
        f"{100 * found.baseline:.4g}",
        *([ends] if limits else []),
        *resources.said,
        *found.gaps(),
        *(f"{layer}: {why}" for layer, why in found.left_out.items()),
    ]
    return asdict(found), found.to_csv(), notes


class _Criterion:
    """The compressor of a recipe for one layer and one sparsity; without a recipe, `l1_filter`."""

    def __init__(self, step: Mapping[str, Any] | None) -> None:
        self.step = step

    def __call__(self, *, sparsity: float, op_names: list[str] | None = None) -> Compressor:
        if self.step is None:
            return L1Filter(sparsity=sparsity, op_names=op_names)
        which = {} if op_names is None else {"op_types": None, "config_list": None}
        names = {} if op_names is None else {"op_names": op_names}
        return build({**self.step, **which, **names, "sparsity": sparsity}, expects=Compressor)


def _dependency(
    model: ClassifierModule, config: DictConfig, recorder: Recorder
) -> tuple[dict[str, Any], str, list[str]]:
    found = channel_dependency(model, example_images(model, EXAMPLES))
    notes = [f"{layer} could not be followed: {why}" for layer, why in found.unknown.items()]
    return asdict(found), found.to_csv(), notes


def _cost(
    model: ClassifierModule, config: DictConfig, recorder: Recorder
) -> tuple[dict[str, Any], str, list[str]]:
    found = count_flops_params(model, example_images(model))
    totals = {"params": found.params, "macs": found.macs}
    return {**asdict(found), **totals}, found.to_csv(), []
