"""Everything that can be wrong before a weight is loaded, told at once."""

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig

from core.configuration import KEYS_OF_AN_EVALUATION, plain, require_sound
from core.errors import ConfigError, NotApplicable
from core.names import Split
from core.targets import build, resolve
from datamodules.base import ImageDataModule
from evaluation.library import build_measurements
from evaluation.recipe import learns_from_data, recipe_faults, recipe_of
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.ranks import srun_tasks
from recording.recorder import Recorder, unattacked


def validate(config: DictConfig, *, writes: bool = True) -> None:
    """Check types, names, targets, data and, where it `writes`, the results folder.

    Raises:
        ConfigError: With every fault found.
    """
    # without sound types and names there is nothing to look up below
    require_sound(config, required=KEYS_OF_AN_EVALUATION)
    faults = [*_target_faults(config), *_rank_faults(plain(config.trainer))]
    faults += _data_faults(config, known=faults)
    if writes:
        faults += unwritable(Path(config.results_dir))
    if faults:
        raise ConfigError(faults)


def require_fitting(model: ClassifierModule, config: DictConfig, recorder: Recorder) -> None:
    """Refuse a model whose logits or channels are not those of the data it is to look at.

    Raises:
        ConfigError: With one fault a dataset.
    """
    faults = []
    for name in sorted(_datasets_used(config)):
        datamodule = recorder.datamodule(name, model)
        space = datamodule.label_space
        wanted = datamodule.num_classes if space is None else space.model_classes
        taken = model.preprocessing.channels
        if datamodule.channels not in (0, 1, taken):
            faults.append(
                f"{name} has images of {datamodule.channels} channels, {model.model_name} takes "
                f"{taken}; choose another of the two"
            )
        if model.num_classes != wanted and not datamodule.foreign:
            advice = "choose another of the two"
            if model.runtime == "torch":  # a file has the head it has
                advice = f"pass model.num_classes={wanted} and a checkpoint with them, or {advice}"
            faults.append(
                f"{name} needs a model of {wanted} classes, {model.model_name} has "
                f"{model.num_classes}; {advice}"
            )
    if faults:
        raise ConfigError(faults)


def unwritable(folder: Path) -> list[str]:
    """A sentence where nothing can be written to a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return []
    except OSError as error:
        return [f"results_dir={folder} cannot be written ({error.strerror}); choose another folder"]


def _target_faults(config: DictConfig) -> Iterator[str]:
    yield from setup_faults(config)
    for name in config.measurements:
        if "datamodule_names" not in config.measurement_library[name]:
            key = f"measurement_library.{name}.datamodule_names"
            yield f"{key} is missing: write ${{datasets}} there, or [] for none"
    for name in config.measurements:
        target = config.measurement_library[name]._target_
        yield from _faults_of(partial(resolve, target, expects=Measurement))


def setup_faults(config: DictConfig) -> Iterator[str]:
    """What is wrong with the model, the trainer or a step of the recipe."""
    yield from _faults_of(partial(resolve, config.model._target_, expects=ClassifierModule))
    yield from _trainer_faults(plain(config.trainer))
    yield from recipe_faults(config)


def _trainer_faults(trainer: dict[str, Any]) -> Iterator[str]:
    for key in ("devices", "num_nodes"):
        count = trainer.get(key, 1)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            yield f"trainer.{key} is a whole number of at least 1 here, got {count!r}"
    if trainer.get("precision") is not None:
        yield "the precision of an evaluation is the model's: set model.dtype, not the trainer's"


def _rank_faults(trainer: dict[str, Any]) -> Iterator[str]:
    """Where the ranks asked for are not the processes there are, samples would be left out."""
    devices, nodes = (trainer.get(key, 1) for key in ("devices", "num_nodes"))
    tasks = srun_tasks()
    if tasks is None and nodes != 1:
        yield (
            f"trainer.num_nodes={nodes} needs srun, which starts a process for each rank: "
            f"mode=cluster hydra.launcher.options.nodes={nodes} "
            f"hydra.launcher.options.ntasks_per_node={devices}"
        )
    if tasks is None or not isinstance(devices, int) or not isinstance(nodes, int):
        return
    there = int(os.environ.get("SLURM_STEP_NUM_NODES", nodes))
    if (tasks, there) != (devices * nodes, nodes):
        yield (
            f"srun has started {tasks} processes on {there} nodes, trainer.devices={devices} and "
            f"trainer.num_nodes={nodes} ask for {devices * nodes} on {nodes}: set "
            f"trainer.devices={max(1, tasks // there)} trainer.num_nodes={there}, or "
            f"ntasks_per_node={devices} and nodes={nodes} of hydra.launcher.options"
        )


def _data_faults(config: DictConfig, *, known: Collection[str]) -> list[str]:
    """What is missing of the datasets, then of what else will be looked at, each once."""
    absent = {
        name: _faults_of(partial(_present, plain(config.dataset_library[name])))
        for name in sorted(_datasets_used(config))
    }
    faults = [fault for of_one in absent.values() for fault in of_one]
    faults += [] if known else _tuning_faults(config)
    recorder = Recorder.from_config(config)
    told = {name for name, of_one in absent.items() if of_one}
    asking: dict[str, list[str]] = {}  # a fault -> measurements that meet it
    for name in config.measurements:
        for fault in _faults_of(partial(_require_requests, name, config, recorder, told)):
            if fault not in known:
                asking.setdefault(fault, []).append(name)
    return faults + [f"{', '.join(names)}: {fault}" for fault, names in asking.items()]


def _tuning_faults(config: DictConfig) -> list[str]:
    """What a recipe would learn from and is not there."""
    if not learns_from_data(recipe_of(config)):
        return []
    name = config.tuning.dataset
    faults = _faults_of(partial(_present, plain(config.dataset_library[name]), "train"))
    step = " and ".join(step["name"] for step in recipe_of(config).values())
    return [f"{step} learns from tuning.dataset={name}: {fault}" for fault in faults]


class _ModelToCome:
    """In the place of the model while none is built: most requests do not depend on it."""

    preprocessing = None
    baseline = None

    def __getattr__(self, name: str) -> Any:
        raise _AskedTooEarlyError(name)


class _AskedTooEarlyError(AttributeError):
    """Something of the model decides the answer, so it comes after the model is built."""


def _require_requests(
    name: str, config: DictConfig, recorder: Recorder, told: Collection[str]
) -> None:
    """Refuse a measurement that is going to look at data that are not there.

    Args:
        name: Entry of the measurement library.
        config: Of the evaluation.
        recorder: Knows the datasets.
        told: Datasets that are not asked again.

    Raises:
        ConfigError: With every fault: of published views, of foreign sets, of other splits.
    """
    model = cast(ClassifierModule, _ModelToCome())
    faults: list[str] = []
    try:
        for _, _, measurement in build_measurements(name, model, config, recorder):
            for request in measurement.requests():
                if request.datamodule in told:
                    continue
                datamodule = recorder.datamodule(request.datamodule, model)
                behind = datamodule.behind(unattacked(request.view))
                faults += behind.faults(request.split)
    except (NotApplicable, _AskedTooEarlyError):
        return  # told when its turn comes
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))


def _datasets_used(config: DictConfig) -> set[str]:
    named = {
        dataset
        for name in config.get("measurements", [])
        for dataset in plain(config.measurement_library[name]).get("datamodule_names", [])
    }
    return named | set(config.datasets)


def _present(node: dict[str, Any], split: Split = "test") -> None:
    faults = build(node, expects=ImageDataModule).faults(split)
    if faults:
        raise ConfigError(faults)


def _faults_of(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return error.faults
    return []
