"""From a baseline and a recipe to a compressed model: made once, then found."""

import copy
import inspect
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from compressors.base import Compressed, Compressor
from core.configuration import plain
from core.digest import digest, file_digest
from core.errors import DataError
from core.targets import build, resolve
from datamodules.base import ImageDataModule
from evaluation.provenance import machine_identity, versions
from evaluation.recipe import learns_from_data, recipe_name, recipe_of
from evaluation.resources import resources_for
from models.artifacts import is_finished, load_artifact, save_artifact
from models.base_model import ClassifierModule
from models.edits import Edits, enforce
from models.examples import example_images
from models.training import finetune
from recording.loop import evaluating
from recording.ranks import alone
from recording.recorder import Recorder
from store.layout import Layout
from store.quarantine import move_aside
from store.sealed import read_sealed, write_sealed

log = logging.getLogger(__name__)

ORIGIN = frozenset({"checkpoint", "checkpoint_url", "pretrained"})
"""Constructor arguments that say where weights come from; the fingerprint has the weights."""

PLACES = frozenset({"root", "num_workers", "cache_pixels", "download"})
"""Arguments of a datamodule that never change an image."""

READ = ("rewind_to",)
"""Parameters that name files of weights: what lies there decides the result, not its name."""

EXAMPLES = 2
"""Images a compressor traces and checks a model with."""


def find_or_compress(
    baseline: ClassifierModule, config: DictConfig, recorder: Recorder, *, dry: bool = False
) -> ClassifierModule | None:
    """The compressed model; None in a dry run where it has not been made yet.

    The same baseline, recipe, data and code give the artifact that lies in the store. What a reader
    would not expect of one that is made is told.
    """
    model = find(baseline, config, recorder)
    if model is not None or dry:
        return model
    model = compress(baseline, config, recorder)
    for slot, step in recipe_of(config).items():
        for note in model.achieved.get(slot, {}).get("notes", ()):
            log.warning("%s: %s", step["name"], note)
    return model


def find(
    baseline: ClassifierModule, config: DictConfig, recorder: Recorder
) -> ClassifierModule | None:
    """The compressed model that was made before; None where there is none that can be used."""
    model = _found(_pointer(baseline, config, recorder), recorder.layout)
    return None if model is None else _like(baseline, model, config)


def compress(
    baseline: ClassifierModule, config: DictConfig, recorder: Recorder
) -> ClassifierModule:
    """Make the compressed model, and store it."""
    pointer = _pointer(baseline, config, recorder)  # first: files may be edited meanwhile
    folder = _compress(baseline, config, recorder)
    write_sealed(pointer, {"artifact": folder.name})
    return _like(baseline, load_artifact(folder), config)


def _like(
    baseline: ClassifierModule, model: ClassifierModule, config: DictConfig
) -> ClassifierModule:
    model.model_name = config.model_name
    return model.to(baseline.device)


def artifact_folder(
    baseline: ClassifierModule, config: DictConfig, recorder: Recorder
) -> Path | None:
    """Where the artifact of a recipe lies; None where it has not been made."""
    return _folder(_pointer(baseline, config, recorder), recorder.layout)


def _folder(pointer: Path, layout: Layout) -> Path | None:
    stored = read_sealed(pointer)
    folder = None if stored is None else layout.artifact(stored["artifact"])
    return folder if folder is not None and is_finished(folder) else None


def _found(pointer: Path, layout: Layout) -> ClassifierModule | None:
    """The artifact a pointer leads to; a damaged one is moved aside and then there is none."""
    folder = _folder(pointer, layout)
    if folder is None:
        return None
    inode = folder.stat().st_ino
    try:
        return load_artifact(folder)
    except DataError as error:
        move_aside(folder, f"cannot be used ({error}) and is made again", inode=inode)
        return None


def _pointer(baseline: ClassifierModule, config: DictConfig, recorder: Recorder) -> Path:
    """File that says which artifact a recipe has given, by everything that decides it."""
    recipe = recipe_of(config)
    identity: dict[str, Any] = {
        "base": recorder.fingerprint(baseline),
        "numerics": baseline.numerics(),
        "constructor": _without(baseline.constructor, ORIGIN),
        "recipe": recipe,
        "order": list(recipe),  # a digest of a mapping knows none
        "seed": config.seed,
        "code": {slot: _source(step) for slot, step in recipe.items()},
        "read": {slot: _read(step) for slot, step in recipe.items()},
        "versions": versions(),
    }
    if any(step.get("budget") == "latency" for step in recipe.values()):
        identity["machine"] = machine_identity()  # another one would choose another network
    if learns_from_data(recipe):
        name = config.tuning.dataset
        splits = [s for s in ("train", "val") if s in recorder.datamodule(name, baseline).splits]
        identity["tuned_on"] = [recorder.manifest(name, split, baseline) for split in splits]
        identity["tuning"] = _without(plain(config.tuning), frozenset({"dataset"}))
        identity["loader"] = _without(plain(config.dataset_library)[name], PLACES)
        identity["trainer"] = alone(plain(config.trainer))
        identity["threads"] = torch.get_num_threads()
        identity["batch_size"] = config.batch_size
    return recorder.layout.recipe_file(digest(identity))


def _read(step: Mapping[str, Any]) -> dict[str, list[str]]:
    """Digests of the files that a step's parameters name; a URL is its own."""
    named = {key: Path(step[key]).expanduser() for key in READ if step.get(key)}
    found = {key: [path, *sorted(path.rglob("*"))] for key, path in named.items()}
    return {key: [file_digest(p) for p in paths if p.is_file()] for key, paths in found.items()}


def _without(values: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in left_out}


def _source(step: Mapping[str, Any]) -> str:
    """Everything a step is written in: where a file changes, artifacts are made anew."""
    folders = [Path(inspect.getfile(owner)).parent for owner in (Compressor, Edits)]
    files = {path for folder in folders for path in folder.glob("**/*.py")}
    files |= {Path(inspect.getfile(part)) for part in (_compress, resources_for, evaluating)}
    if "_target_" in step:
        files.add(Path(inspect.getfile(resolve(step["_target_"], expects=Compressor))))
    return digest(sorted(file_digest(path) for path in files))


def _compress(baseline: ClassifierModule, config: DictConfig, recorder: Recorder) -> Path:
    """Carry out the steps of the recipe and store the result."""
    model, achieved, seconds = copy.deepcopy(baseline), {}, {}
    program = None
    for slot, step in recipe_of(config).items():
        log.info("%s: %s", slot, step["name"])
        started = time.perf_counter()
        if "_target_" not in step:
            _finetune(model, baseline, step, config)
        else:
            result = _carried_out(model, step, config, recorder)
            assert isinstance(result.model, ClassifierModule), "a compressor keeps the class"
            model, program = result.model, result.program
            achieved[slot] = {**result.report.achieved, "notes": result.report.notes}
        seconds[slot] = round(time.perf_counter() - started, 3)
    operation = {"name": recipe_name(config), "parameters": recipe_of(config)}
    return save_artifact(
        recorder.layout.artifacts,
        model,
        example_inputs=example_images(model, EXAMPLES),
        recipe=recipe_of(config),
        lineage={"base_id": recorder.fingerprint(baseline), "operation": operation},
        achieved={**achieved, "seconds": seconds},
        program=program,
    )


def _carried_out(
    model: ClassifierModule, step: dict[str, Any], config: DictConfig, recorder: Recorder
) -> Compressed:
    """What a compressor makes of the model."""
    compressor = build(step, expects=Compressor)
    resources = resources_for(model, config, recorder) if compressor.needs else None
    return compressor.compress(model, example_images(model, EXAMPLES), resources)


def _finetune(
    model: ClassifierModule, baseline: ClassifierModule, step: dict[str, Any], config: DictConfig
) -> None:
    """Train the compressed model on the train split of the tuning data; masks stay."""
    entry = plain(config.dataset_library)[config.tuning.dataset]
    finetune(
        model,
        build(entry, expects=ImageDataModule),
        step,
        baseline=baseline,
        after_step=enforce,
        seed=config.seed,
        trainer=alone(plain(config.trainer)),
    )
