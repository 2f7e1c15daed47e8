"""A training that can be interrupted: checkpoints, resume, tracking, exported weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from safetensors.torch import save

from core.digest import digest
from core.files import write_atomically, write_json
from core.names import slug
from models.base_model import ClassifierModule
from models.edits import enforce
from models.tracking import ValidationImages, tracked
from models.training import fit

LAST, BEST = "last", "best"

WEIGHTS = "weights.safetensors"

NOT_LEARNED_FROM = ("mode", "wandb", "results_dir", "allowed_targets", "dataset_library")
"""Keys of a configuration that do not decide which weights come out."""


def folder_of(
    results_dir: str | Path, name: str, config: Mapping[str, Any], dataset: Mapping[str, Any]
) -> Path:
    """Folder of a training: the same command has the same, another command another.

    Args:
        results_dir: Folder of all results.
        name: For humans.
        config: The whole configuration, resolved.
        dataset: The entry of the dataset library that is trained on.
    """
    decisive = {key: value for key, value in config.items() if key not in NOT_LEARNED_FROM}
    identity = digest({"config": decisive, "dataset": dict(dataset)})
    return Path(results_dir) / "training" / f"{slug(name)}-{identity[:10]}"


def train(
    model: ClassifierModule,
    data: pl.LightningDataModule,
    *,
    folder: Path,
    config: Mapping[str, Any],
) -> Path:
    """Train, or go on where the same training was interrupted.

    `last.ckpt` is what a repeated command goes on from, `best.ckpt` the epoch with the highest
    validation accuracy, where there is a validation split. A job of a sweep that is preempted goes
    on from its last epoch; one that was sent to SLURM by hand, Lightning saves and requeues.

    Args:
        model: Trained in place; what was zeroed in it stays zero.
        data: With `train`, and where it exists `val`.
        folder: Receives checkpoints, wandb's files and the weights.
        config: `seed`, `augmentation`, `trainer`, `wandb`, as in config/train_defaults.yaml.

    Returns:
        Path of the weights after the last epoch, as safetensors; a legal `model.checkpoint`.
    """
    checkpoints = _checkpoints(folder, validated="val" in getattr(data, "splits", ()))
    last = folder / f"{LAST}.ckpt"
    write_json(folder / "config.json", dict(config))
    tags = [str(config.get("model_name")), *config.get("datasets", [])]
    with tracked(
        config["wandb"], name=folder.name, folder=folder, tags=tags, config=config
    ) as logger:
        watching = _observers(data) if logger else []
        fit(
            model,
            data,
            augmentation=config["augmentation"],
            seed=config["seed"],
            trainer={
                **config["trainer"],
                "logger": logger or False,
                "enable_checkpointing": True,
                "default_root_dir": folder,  # where Lightning looks for a requeued job's state
            },
            callbacks=[*checkpoints, *watching],
            after_step=enforce,
            resume=str(last) if last.exists() else None,
        )
    weights = folder / WEIGHTS
    tensors = {name: tensor.contiguous() for name, tensor in model.backbone.state_dict().items()}
    write_atomically(weights, save(tensors))
    return weights


def _checkpoints(folder: Path, *, validated: bool) -> list[pl.Callback]:
    """Two, since what Lightning calls `last` is the last that was an improvement."""
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    # After every epoch, also where validations are rarer.
    last = ModelCheckpoint(filename=LAST, save_on_train_epoch_end=True, **common)
    best = ModelCheckpoint(filename=BEST, monitor="val_accuracy", mode="max", **common)
    return [best, last] if validated else [last]


def _observers(data: pl.LightningDataModule) -> list[pl.Callback]:
    classes = getattr(data, "classes", None)
    pictures = [] if classes is None else [ValidationImages(classes)]
    return [*pictures, LearningRateMonitor()]
