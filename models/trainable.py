"""What Lightning's Trainer calls on a classifier."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from core.errors import ConfigError
from models.optimization import Optimization

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits [B, C], images [B, K, H, W], labels [B] -> the scalar that training makes smaller."""

Batch = tuple[Tensor, Tensor]


def cross_entropy(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the labels in nats; the images are not looked at."""
    return F.cross_entropy(logits, labels)


class Trainable(pl.LightningModule):
    """A module from images to logits with its optimizer, its steps and what they display.

    Accuracies here are for the progress bar; results come from records.

    Attributes:
        optimization: Optimizer and scheduler.
        objective: What a training step makes smaller.
        augmentation: Changes training images, None = as they are.
        penalty: Is added to the objective of a training step, None = nothing is.
    """

    num_classes: int
    compute_dtype: str
    runtime: str

    def __init__(self, optimization: Optimization) -> None:
        super().__init__()
        self.optimization = optimization
        self.objective: Objective = cross_entropy
        self.augmentation: Callable[[Tensor], Tensor] | None = None
        self.penalty: Callable[[], Tensor] | None = None

    def configure_optimizers(self) -> Any:
        """Optimizer and scheduler by name, over what is not frozen."""
        if self.compute_dtype == "float16":
            raise ConfigError(
                ["float16 gradients vanish without scaling; train with model.dtype=bfloat16"]
            )
        trained = [p for p in self.parameters() if p.requires_grad]
        if not trained:
            deployed = f"{self.runtime} does not train; train first, and deploy in the slot `then`"
            frozen = "every parameter is frozen: nothing to train"
            raise ConfigError([frozen if self.runtime == "torch" else deployed])
        optimizer = self.optimization.build_optimizer(trained)
        if not self.optimization.scheduler:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        scheduler = self.optimization.build_scheduler(optimizer, steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def setup(self, stage: str) -> None:
        """Make the meters that training displays."""
        if stage == "predict":
            return
        for split in ("val", "test"):
            meter = MulticlassAccuracy(num_classes=self.num_classes, average="micro")
            self.add_module(f"{split}_accuracy", meter)

    def teardown(self, stage: str) -> None:
        """Take the meters away: they are no part of the model."""
        for name in ("val_accuracy", "test_accuracy"):
            self._modules.pop(name, None)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective of one batch, augmented where that is wanted."""
        images, labels = batch
        if self.augmentation is not None:
            images = self.augmentation(images)
        loss = self.objective(self(images), images, labels)
        if self.penalty is not None:
            loss = loss + self.penalty()
        self.log("train_loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Cross-entropy and accuracy, for display."""
        self._judge(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The same on the test split."""
        self._judge(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Any:
        """Logits of the images of a batch."""
        return self(batch[0])

    def _judge(self, batch: Batch, split: str) -> None:
        images, labels = batch
        logits = self(images)
        meter = getattr(self, f"{split}_accuracy")
        meter.update(logits, labels)
        shown: dict[str, Any] = {"prog_bar": True, "on_epoch": True, "batch_size": len(labels)}
        self.log(f"{split}_loss", F.cross_entropy(logits, labels), sync_dist=True, **shown)
        self.log(f"{split}_accuracy", meter, **shown)
