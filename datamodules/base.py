"""The base of every dataset: what exists, what is missing, its digest, its samples."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from core.errors import DataError, unknown
from core.names import Split
from core.preprocessing import Preprocessing
from datamodules.decoding import DecodeError
from datamodules.download import Archive
from datamodules.label_space import LabelSpace
from datamodules.pixels import cached_dataset
from datamodules.samples import FittedDataset, ImageDataset, Source, collate
from datamodules.views.registry import view as named_view
from datamodules.views.view import View

__all__ = ["DecodeError", "ImageDataModule", "ImageDataset", "collate"]

STAGES: Mapping[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}
"""Splits that Lightning's stages look at."""


class ImageDataModule(pl.LightningDataModule):
    """A dataset on disk, one `train`, `val` and `test` split each or fewer.

    The constructor stores its arguments; nothing is read before `setup`, `dataset`, `labels` or
    another method asks for one split, and only that split has to exist. A subclass says which
    splits and classes there are, what is missing, how the digest is made, and reads a `Source`.

    Args:
        root: Folder of the dataset.
        batch_size: Samples a batch of the data loaders.
        num_workers: Processes that read ahead; 0 = none. Never changes an image.
        max_decode_errors: Damaged images a recording may skip before it fails.
        download: Fetch what is missing from the publisher, where it offers a stable archive.
        cache_pixels: Keep resized pixels in a file; has effect once `preprocessing` has a size.
        seed: Order in which the train loader shuffles.

    Attributes:
        setup_calls: How often any datamodule of this process really read a split.
        preprocessing: What the model wants, set by whoever pairs the two; None = native size.
        max_decode_errors: As given.
    """

    library_name: str = ""
    """Entry of the dataset library, so that a message can name the key to set."""
    homepage: ClassVar[str] = ""
    """Where the publisher offers the data."""
    archives: ClassVar[tuple[Archive, ...]] = ()
    """What `download=true` fetches; empty where nobody may or can."""
    foreign: ClassVar[bool] = False
    """Whether no model has its labels for classes: who reads its records asks for `classes_of`."""
    group_columns: tuple[str, ...] = ()
    channels: int = 0
    """Colour channels of every image; 0 = not known before they are read."""
    setup_calls: ClassVar[int] = 0

    def __init__(
        self,
        *,
        root: str = "",
        batch_size: int = 128,
        num_workers: int = 0,
        max_decode_errors: int = 0,
        download: bool = False,
        cache_pixels: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_decode_errors = max_decode_errors
        self.download = download
        self.cache_pixels = cache_pixels
        self.seed = seed
        self.preprocessing: Preprocessing | None = None
        self._sources: dict[Split, Source] = {}

    # What a subclass answers.

    @property
    @abstractmethod
    def splits(self) -> tuple[Split, ...]:
        """The splits this dataset has."""

    @property
    @abstractmethod
    def classes(self) -> list[str]:
        """Name of each class, in the order of the labels; decodes no image."""

    @abstractmethod
    def missing(self, split: Split) -> list[str]:
        """What is not on disk or not possible, as sentences; cheap, [] = fine."""

    @abstractmethod
    def digest(self, split: Split, *, verify: bool) -> str:
        """Digest of all that decides samples and labels of a split that is not missing."""

    @abstractmethod
    def count_samples(self, split: Split) -> int:
        """Number of samples, without reading an image."""

    @abstractmethod
    def read(self, split: Split) -> Source:
        """Read what has to be read before the first image of a split can be served."""

    # What everyone may ask.

    @property
    def num_classes(self) -> int:
        """Classes of the labels, after the label space."""
        return len(self.classes)

    @property
    def label_space(self) -> LabelSpace | None:
        """How the logits of a wider model map to these classes; None = one to one."""
        return None

    @property
    def folder(self) -> Path:
        """`root` as a path."""
        return Path(self.root).expanduser()

    def faults(self, split: Split) -> list[str]:
        """Why this split cannot be read, one sentence a reason; [] = it can."""
        if faults := self.wrong_options():
            return faults
        if split not in self.splits:
            return [unknown(f"split of {self.library_name}", split, self.splits)]
        if self.download and self.archives:
            return []
        try:
            return self.missing(split)
        except DataError as error:  # a file that says which others there must be is damaged
            return [str(error)]

    def wrong_options(self) -> list[str]:
        """Arguments that can never work, one sentence each."""
        return []

    def manifest(self, split: Split, *, verify: bool = False) -> str:
        """Digest of what is on disk; decodes nothing.

        Args:
            split: Which part.
            verify: Hash every file again, even where size, time and inode have not changed.
        """
        self.require(split)
        return self.digest(split, verify=verify)

    def count(self, split: Split) -> int:
        """Number of samples of a split."""
        self.require(split)
        return self.count_samples(split)

    def require(self, split: Split) -> None:
        """Make sure that a split is there, by a download where that is allowed.

        Raises:
            ValueError: An option can never work.
            LookupError: The dataset has no such split.
            FileNotFoundError: Files are missing; the text says which, where to get them and
                which key to set.
        """
        if faults := self.wrong_options():
            raise ValueError("; ".join(faults))
        if split not in self.splits:
            raise LookupError(self.faults(split)[0])
        if self.download and self.archives and self.missing(split):
            self.fetch()
        if faults := self.missing(split):
            raise FileNotFoundError("; ".join(faults))

    def fetch(self) -> None:
        """Download and unpack every archive of the dataset."""
        for archive in self.archives:
            archive.fetch(self.folder)

    def prepare_data(self) -> None:
        """Lightning's place for downloads; does nothing unless `download` is set."""
        if self.download and self.archives and any(map(self.missing, self.splits)):
            self.fetch()

    def setup(self, stage: str | None = None) -> None:
        """Read the splits of a stage; None = all that are there, and at least one must be."""
        wanted = self.splits if stage is None else STAGES[stage]
        here = [split for split in wanted if split in self.splits]
        if stage is None and not self.download:
            here = [split for split in here if not self.missing(split)] or here[-1:]
        for split in here:
            self.source(split)

    def source(self, split: Split) -> Source:
        """The samples of a split; read once, then remembered."""
        if split not in self._sources:
            self.require(split)
            ImageDataModule.setup_calls += 1
            self._sources[split] = self.read(split)
        return self._sources[split]

    def dataset(self, split: Split) -> ImageDataset:
        """Images as float32 [C, H, W] in [0, 1], in the size that `preprocessing` asks for."""
        source, preprocessing = self.source(split), self.preprocessing
        ready = source.ready(preprocessing)
        if ready is not None:
            return ready
        if self.cache_pixels and preprocessing is not None and preprocessing.size is not None:
            return cached_dataset(
                source,
                preprocessing,
                manifest=lambda: self.manifest(split),
                workers=self.num_workers,
            )
        return FittedDataset(source, preprocessing)

    def labels(self, split: Split) -> np.ndarray:
        """True classes, int64 [n], in sample order."""
        return self.source(split).labels

    def groups(self, split: Split) -> dict[str, list[str]]:
        """Value of each group column for every sample."""
        return self.source(split).groups

    def label_sets(self, split: Split) -> list[tuple[int, ...]] | None:
        """All right classes of each sample, where more than the label is known; else None."""
        return None

    def sample_path(self, split: Split, i: int) -> str:
        """What a human calls sample `i`: a path, or `test_batch.bin#17`."""
        return self.source(split).name(i)

    def behind(self, view: str) -> "ImageDataModule":
        """The dataset whose images `view` is applied to: itself, unless they lie on disk too."""
        return self

    def view(self, name: str) -> View:
        """Function (images [B, C, H, W], sample ids [B]) -> images that makes a view.

        Raises:
            LookupError: There is no such view; the text has the nearest name and the grammar.
        """
        return named_view(name)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches; the order depends on `seed` and the epoch, not on the workers."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches in sample order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches in sample order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test split."""
        return self._loader("test")

    def _loader(self, split: Split, *, shuffle: bool = False) -> DataLoader[Any]:
        dataset = self.dataset(split)
        # Generators of our own: a loader without one draws from the stream of the whole process.
        order = torch.Generator().manual_seed(self.seed)
        sampler = RandomSampler(dataset, generator=order) if shuffle else SequentialSampler(dataset)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),
        )
