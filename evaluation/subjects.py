"""The models of one evaluation: the baseline, and what compression made of it."""

import copy
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from core.configuration import plain
from core.digest import digest
from core.errors import ConfigError
from core.names import run_id
from evaluation.compression import find_or_compress
from evaluation.library import build_model
from evaluation.provenance import provenance
from evaluation.recipe import STEPS, recipe_label, recipe_name, recipe_of
from evaluation.validate import require_fitting
from models.base_model import ClassifierModule
from recording.recorder import Recorder
from store.runs import Run

UNSCIENTIFIC = (
    "mode",
    "wandb",
    "results_dir",
    "dry_run",
    "verify_data",
    "trainer",
    "threads",
    "allowed_targets",
)
"""Keys that say where and on what a run happens, not what is measured."""

LIBRARIES = ("dataset_library", "measurement_library")
"""Most of a configuration; an evaluation resolves the few entries that it uses."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model of an evaluation and the run its cells belong to."""

    model: ClassifierModule
    run: Run
    made: bool = True  # False in a dry run: the compression has not happened yet


def subjects_of(config: DictConfig, recorder: Recorder, *, dry: bool = False) -> list[Subject]:
    """Baseline first, then the compressed model; a model that is no baseline stands alone."""
    model = build_model(config.model, config.model_name, config.trainer)
    reference = _stated_baseline(config) or model.baseline
    for each in (model, reference):
        if each is not None:
            require_fitting(each, config, recorder)
    if not recipe_of(config):
        if reference is None:
            return [_subject(model, config, recorder)]
        model.baseline = reference
        before = _subject(reference, config, recorder)
        return [before, _subject(model, config, recorder, baseline=before)]
    if reference is not None:
        raise ConfigError(
            [
                "model@baseline names the baseline of a checkpoint that was compressed elsewhere; "
                "with a recipe the model itself is the baseline: leave one of them out"
            ]
        )
    before = _subject(model, config, recorder)
    compressed = find_or_compress(model, config, recorder, dry=dry)
    made = compressed is not None
    after = compressed if compressed is not None else _stand_in(model)
    after.baseline = model
    return [before, _subject(after, config, recorder, baseline=before, made=made)]


def _stated_baseline(config: DictConfig) -> ClassifierModule | None:
    node = config.get("baseline")
    return None if node is None else build_model(node.model, node.model_name, config.trainer)


def _stand_in(model: ClassifierModule) -> ClassifierModule:
    """The model a dry run asks about while the compressed one does not exist."""
    return copy.deepcopy(model)


def _subject(
    model: ClassifierModule,
    config: DictConfig,
    recorder: Recorder,
    *,
    baseline: Subject | None = None,
    made: bool = True,
) -> Subject:
    recipe = recipe_of(config) if baseline is not None else {}
    label = recipe_label(config) if baseline is not None else "none"
    passes = {name: recorder.describe(model, name, "test").key for name in sorted(config.datasets)}
    identity = {
        "model": model.fingerprint() if made else "not made yet",
        "baseline": None if baseline is None else baseline.run.fingerprint,
        "recipe": recipe,
        "numerics": model.numerics(),
        "passes": passes,
        "limit_samples": config.limit_samples,
        "seed": config.seed,
    }
    operation = {"name": recipe_name(config), "parameters": recipe}
    run = Run(
        run_id=run_id(model.model_name, label, digest(identity)),
        model=model.model_name,
        compressor=label,
        baseline=None if baseline is None else baseline.run.run_id,
        fingerprint=identity["model"],
        seed=config.seed,
        passes=passes,
        config=scientific(config, is_baseline=baseline is None),
        lineage={}
        if baseline is None
        else {
            "base_id": baseline.run.run_id,
            "operation": operation,
        },
        provenance=provenance(),
        attempts=[],
    )
    return Subject(model=model, run=run, made=made)


def scientific(config: DictConfig, *, is_baseline: bool) -> dict[str, Any]:
    """The resolved configuration without what does not decide a number of this run."""
    values = {str(key): _resolved(config[key]) for key in config if key not in LIBRARIES}
    if is_baseline:
        stated = values.pop("baseline") or {}
        values = {key: value for key, value in values.items() if key not in STEPS} | stated
    used = {name: plain(config.dataset_library[name]) for name in sorted(set(values["datasets"]))}
    kept = {key: value for key, value in values.items() if key not in UNSCIENTIFIC}
    return {**kept, "dataset_library": used}


def _resolved(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
