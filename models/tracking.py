"""Showing a training in wandb: a mirror, never the place where results live."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import Tensor

from core.tracking import wandb_for

if TYPE_CHECKING:
    from pytorch_lightning.loggers import WandbLogger

log = logging.getLogger(__name__)

IMAGES = 8
"""Validation images shown after every epoch."""


@contextmanager
def tracked(
    settings: Mapping[str, Any],
    *,
    name: str,
    folder: Path,
    tags: Sequence[str],
    config: Mapping[str, Any],
) -> Iterator["WandbLogger | None"]:
    """A wandb run around a training, marked failed if the training fails; None if disabled.

    A wandb that cannot start is told and does without: the training does not depend on it.

    Args:
        settings: `project`, `name`, `group`, `tags`, `notes`, `mode` of the configuration.
        name: Shown where the settings have none.
        folder: Where wandb keeps its files.
        tags: Added to those of the settings.
        config: What the run was asked to do, shown beside it.
    """
    if settings["mode"] == "disabled" or not _is_first_rank():
        yield None
        return
    from pytorch_lightning.loggers import WandbLogger

    wandb = wandb_for(settings["mode"])
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    options = {**settings, "tags": [*(settings["tags"] or []), *tags]}
    options["name"] = settings["name"] or name
    try:
        run = wandb.init(
            **options,
            dir=folder,
            job_type="train",
            config=dict(config),
            reinit="create_new",
        )
    except (wandb.Error, OSError) as error:
        log.warning("wandb does not start (%s); training goes on without it", error)
        yield None
        return
    failed = True
    try:
        yield WandbLogger(experiment=run)
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def _is_first_rank() -> bool:
    """Whether this process is the one of a distributed training that reports."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


class ValidationImages(pl.Callback):
    """Shows the first images of the validation split with what the model says about them.

    Args:
        classes: Names of the classes, in the order of the labels.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def on_validation_batch_end(  # noqa: D102 - as in Lightning
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        log_image = getattr(trainer.logger, "log_image", None)
        if batch_idx or log_image is None:
            return
        images, labels = (part[:IMAGES] for part in batch)
        predicted = pl_module(images).argmax(dim=1)
        captions = [
            f"{self.classes[label]}, predicted {self.classes[guess]}"
            for label, guess in zip(labels.tolist(), predicted.tolist(), strict=True)
        ]
        pixels = (images.float() * 255).round().clamp(0, 255).byte()  # wandb cuts floats off
        pictures = [image.permute(1, 2, 0).cpu().numpy() for image in pixels]
        log_image(key="validation_images", images=pictures, caption=captions)
