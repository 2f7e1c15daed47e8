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
from recording.columns import record_columns, shifted_logits

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
    """How a model looks at a batch: view, forward pass, label space, columns."""

    model: ClassifierModule
    view: View
    label_space: LabelSpace | None
    classes: int
    batch_size: int

    def __call__(self, batch: Batch, *, features: bool = False) -> Rows:
        """Rows of one batch, with what the classifier head sees where `features` are asked for.

        Raises:
            ValueError: The logits' width does not fit the dataset's classes.
        """
        device = device_of(self.model)
        images = padded(batch.images, self.batch_size).to(device, non_blocking=True)
        ids = padded(batch.ids, self.batch_size)
        images = self.view(images, ids.to(device))
        seen: Tensor | None = None
        if features:
            logits, seen = self.model.logits_and_features(images)
            seen = seen[: len(batch.ids)]
        else:
            logits = self.model(images)
        logits = logits[: len(batch.ids)].float()
        if self.label_space is not None:
            logits = self.label_space.restrict(logits)
        if logits.ndim != 2 or logits.shape[1] != self.classes:
            raise ValueError(
                f"the dataset has {self.classes} classes, so logits [N, {self.classes}] were "
                f"expected, got {list(logits.shape)}; evaluate a model made for this dataset"
            )
        labels = batch.labels.to(device)
        columns = {"sample_id": batch.ids, "label": batch.labels, **record_columns(logits, labels)}
        return Rows(
            columns={name: column.cpu().numpy() for name, column in columns.items()},
            logits=shifted_logits(logits).cpu().numpy(),
            features=None if seen is None else seen.cpu().numpy(),
        )


def device_of(model: nn.Module) -> torch.device:
    """Device of the parameters; a runtime without parameters takes images on the CPU."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
