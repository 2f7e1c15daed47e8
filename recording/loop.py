"""The one loop in which a model looks at images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from datamodules.base import DecodeError, ImageDataset, collate
from datamodules.label_space import LabelSpace
from models.base_model import ClassifierModule
from recording.attacks.attack import Attack, Attacked
from recording.columns import NO_CLASS, record_columns, shifted_logits

View = Callable[[Tensor, Tensor], Tensor]
Failures = dict[int, str]
"""Sample id -> why its image could not be decoded."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode without gradients; afterwards every module has its own mode back."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield model
    finally:
        for module, training in was_training.items():
            module.training = training


@contextmanager
def threads_set(count: int | None) -> Iterator[int]:
    """Run with `count` intra-op threads (None: as it is); yields the number in force."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@dataclass(kw_only=True)
class Batch:
    """Decoded images of one step, and the samples that could not be decoded."""

    images: Tensor  # [B, C, H, W] in [0, 1]
    labels: Tensor  # [B] int64
    ids: Tensor  # [B] int64
    failures: Failures = field(default_factory=dict)


class NumberedDataset(Dataset[Batch]):
    """Some samples of a dataset by id; a batch tells which images could not be decoded."""

    def __init__(self, dataset: ImageDataset, ids: np.ndarray) -> None:
        self.dataset, self.ids = dataset, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Fetch a whole batch, in one call where the dataset can."""
        ids = [int(self.ids[position]) for position in positions]
        try:
            images, labels = self.dataset.__getitems__(ids)
        except DecodeError:
            return self._one_by_one(ids)
        return Batch(images=images, labels=labels, ids=torch.tensor(ids))

    def _one_by_one(self, ids: Sequence[int]) -> Batch:
        images, labels, kept = [], [], []
        failures: Failures = {}
        for sample in ids:
            try:
                image, label = self.dataset[sample]
            except DecodeError as error:
                failures[sample] = str(error)
                continue
            images.append(image)
            labels.append(label)
            kept.append(sample)
        return Batch(
            images=torch.stack(images) if images else torch.empty(0),
            labels=torch.tensor(labels, dtype=torch.int64),
            ids=torch.tensor(kept, dtype=torch.int64),
            failures=failures,
        )


def batches(
    dataset: ImageDataset, ids: np.ndarray, *, batch_size: int, num_workers: int
) -> DataLoader[Batch]:
    """Loader over the samples `ids`, in that order."""
    return DataLoader(
        NumberedDataset(dataset, ids),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate,
        generator=torch.Generator(),  # without one it draws from the stream of the process
    )


def padded(images: Tensor, batch_size: int) -> Tensor:
    """Repeat the first row until the batch is full.

    Kernels choose their algorithm by shape, so a row of a short batch would differ in its last
    bits from the same row of a full one.
    """
    missing = batch_size - len(images)
    if missing <= 0:
        return images
    return torch.cat([images, images[:1].expand(missing, *images.shape[1:])])


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the model said about one batch, on the CPU, ready to be appended."""

    columns: dict[str, np.ndarray]
    logits: np.ndarray  # [B, C] float16, shifted
    features: np.ndarray | None  # [B, D] float32


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a model looks at a batch: view, attack, forward pass, label space, columns.

    Args:
        model: Who looks.
        view: What is done to the images.
        label_space: How its logits answer for the classes of the dataset; None = one to one.
        classes: Number of these.
        batch_size: Every forward pass is of that many images.
        labelled: Whether the labels of the dataset are of these classes.
        attack: What is done to the images of the view, where they are attacked.
        source: The model they are attacked through; None = `model` itself.
    """

    model: ClassifierModule
    view: View
    label_space: LabelSpace | None
    classes: int
    batch_size: int
    labelled: bool = True
    attack: Attack | None = None
    source: ClassifierModule | None = None

    @property
    def models(self) -> list[ClassifierModule]:
        """Every model that takes part."""
        return [self.model] if self.source is None else [self.model, self.source]

    def __call__(self, batch: Batch, *, features: bool = False) -> Rows:
        """Rows of one batch, with what the classifier head sees where `features` are asked for.

        Raises:
            ValueError: The logits' width does not fit the dataset's classes.
        """
        device = device_of(self.model)
        images = padded(batch.images, self.batch_size).to(device, non_blocking=True)
        ids = padded(batch.ids, self.batch_size)
        images = self.view(images, ids.to(device))
        known: dict[str, Tensor] = {}
        if self.attack is not None:
            attacked = self._attacked(images, padded(batch.labels, self.batch_size), ids)
            images = attacked.images.to(device)
            known = {name: x[: len(batch.ids)] for name, x in attacked.columns.items()}
        seen: Tensor | None = None
        if features:
            logits, seen = self.model.logits_and_features(images)
            seen = seen[: len(batch.ids)]
        else:
            logits = self.model(images)
        logits = self._of_the_dataset(logits[: len(batch.ids)])
        labels = batch.labels if self.labelled else torch.full_like(batch.labels, NO_CLASS)
        answers = record_columns(logits, labels.clamp(min=0).to(device))
        columns = {"sample_id": batch.ids, "label": labels, **answers, **known}
        return Rows(
            columns={name: column.cpu().numpy() for name, column in columns.items()},
            logits=shifted_logits(logits).cpu().numpy(),
            features=None if seen is None else seen.cpu().numpy(),
        )

    def _attacked(self, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        assert self.attack is not None
        source = self.source or self.model
        device = device_of(source)
        return self.attack(
            lambda seen: self._of_the_dataset(source(seen)),
            images.to(device),
            labels.to(device),
            ids.to(device),
        )

    def _of_the_dataset(self, logits: Tensor) -> Tensor:
        """Logits of the dataset's classes, float32 [B, C]."""
        logits = logits.float()
        if self.label_space is not None:
            logits = self.label_space.restrict(logits)
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(
                f"the dataset has {self.classes} classes, so logits [N, {self.classes}] were "
                f"expected, got {list(logits.shape)}; evaluate a model made for this dataset"
            )
        return logits


def device_of(model: nn.Module) -> torch.device:
    """Device of the parameters; a runtime without parameters takes images on the CPU."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
