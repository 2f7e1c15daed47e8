"""One compressed model: made, or found again, and written in other forms."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from compressors.forms import FILES, export_forms, form_faults
from core.configuration import check_types, plain
from core.errors import ConfigError, pick, unknown
from core.targets import build
from datamodules.base import ImageDataModule
from evaluation.analyses import KINDS, sensitivity_faults
from evaluation.compression import artifact_folder, compress, find
from evaluation.library import build_model
from evaluation.recipe import learns_from_data, recipe_label, recipe_of
from evaluation.validate import require_fitting, setup_faults, unwritable
from recording.loop import threads_set
from recording.ranks import srun_tasks
from recording.recorder import Recorder
from store.disk import full_disk_told

KEYS = (
    *("seed", "results_dir", "datasets", "model_name", "model", "compressor", "then", "finetune"),
    *("tuning", "trainer", "mode", "dry_run", "verify_data", "batch_size", "threads"),
    *("allowed_targets", "dataset_library"),
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A compressed model in the store.

    Args:
        model: Name of what was compressed.
        label: Short text of the recipe.
        recipe: Slot -> step, in the order they are carried out.
        folder: Where the artifact lies; None where a dry run finds none.
        achieved: Slot -> what the step achieved, as the artifact remembers it.
        found: Whether it lay there already.
        seconds: What making or finding took.
        exports: Files written beside it; of a dry run, those that would be.
        dry: Whether nothing was written.
    """

    model: str
    label: str
    recipe: dict[str, Any]
    folder: Path | None
    achieved: dict[str, Any] = field(default_factory=dict)
    found: bool = False
    seconds: float = 0.0
    exports: list[Path] = field(default_factory=list)
    dry: bool = False


def make(config: DictConfig) -> Made:
    """Find the artifact of a recipe, or make it, and export it.

    Raises:
        ConfigError: All that is wrong with the configuration.
        IncompatibleModel: The model cannot be treated, or not be exported, in this way.
    """
    validate_compression(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)  # random weights, if any
    recorder = Recorder.from_config(config)
    with threads_set(config.threads), full_disk_told(recorder.layout.root):
        return _made(config, recorder)


def _made(config: DictConfig, recorder: Recorder) -> Made:
    baseline = build_model(config.model, config.model_name, config.trainer)
    if learns_from_data(recipe_of(config)):
        require_fitting(baseline, config, recorder)
    known = {
        "model": config.model_name,
        "label": recipe_label(config),
        "recipe": recipe_of(config),
        "dry": config.dry_run,
    }
    start = time.perf_counter()
    compressed = find(baseline, config, recorder)
    found = compressed is not None
    if compressed is None:
        if config.dry_run:
            return Made(**known, folder=None, exports=[Path(FILES[form]) for form in config.export])
        compressed = compress(baseline, config, recorder)
    folder = artifact_folder(baseline, config, recorder)
    assert folder is not None, "it was found or made just now"
    seconds = time.perf_counter() - start
    return Made(
        **known,
        folder=folder,
        achieved=dict(compressed.achieved),
        found=found,
        seconds=seconds,
        exports=[folder / FILES[form] for form in config.export]
        if config.dry_run
        else export_forms(compressed, baseline, folder, list(config.export)),
    )


def validate_compression(config: DictConfig) -> None:
    """Check types, names, targets, data and the results folder.

    Raises:
        ConfigError: With every fault found.
    """
    faults = check_types(config, required=KEYS)
    faults += form_faults(plain(config).get("export"))
    if config.analyse not in (None, *KINDS):
        faults.append(unknown("analysis", config.analyse, KINDS))
    if faults:
        raise ConfigError(faults)
    faults = list(setup_faults(config))
    if (tasks := srun_tasks() or 1) > 1:
        faults.append(
            f"srun has started {tasks} processes, each of which would do the same: ask for one "
            "task, hydra.launcher.options.ntasks_per_node=1"
        )
    if config.analyse == "sensitivity":
        faults += sensitivity_faults(config)
    if not faults and config.analyse is None and not recipe_of(config):
        faults.append(
            "compressor=none changes nothing: name a recipe, as in compressor=l1_filter "
            "compressor.sparsity=0.5, or look at the model with analyse=cost"
        )
    if not faults and (learns_from_data(recipe_of(config)) or config.analyse == "sensitivity"):
        faults += _data_faults(config)
    if not config.dry_run:
        faults += unwritable(Path(config.results_dir))
    if faults:
        raise ConfigError(faults)


def _data_faults(config: DictConfig) -> list[str]:
    """What is missing of the data a recipe learns from."""
    name = config.tuning.dataset
    entry = plain(pick("dataset", name, config.dataset_library))
    data = build(entry, expects=ImageDataModule)
    splits = [split for split in data.splits if split != "test"]
    return [f"tuning.dataset={name}: {fault}" for split in splits for fault in data.faults(split)]
