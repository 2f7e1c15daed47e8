"""The data, the score and the training that a compression may use: never the test split."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from compressors.resources import Resources
from core.configuration import plain
from core.names import Split
from datamodules.base import ImageDataModule, ImageDataset, collate
from models.base_model import ClassifierModule
from models.training import fit
from recording.key import chosen_ids
from recording.loop import device_of, evaluating
from recording.ranks import alone
from recording.recorder import Recorder

OPTIMISTIC = (
    "the score part is a part of {name}'s train split, which the baseline has learned: scores of "
    "candidates are optimistic"
)


@dataclass(frozen=True)
class Parts:
    """Samples a compression tunes on and samples it scores candidates on; disjoint.

    Args:
        tuning: Split and ids.
        score: Split and ids.
    """

    tuning: tuple[Split, np.ndarray]
    score: tuple[Split, np.ndarray]

    @property
    def optimistic(self) -> bool:
        """Whether scores are taken on data that the baseline was trained on."""
        return self.score[0] == "train"


def parts_of(datamodule: ImageDataModule, *, samples: int | None, score_share: float) -> Parts:
    """Divide what is not the test split.

    Scores are taken on `val` where there is one, else on a fixed random share of `train`.

    Args:
        datamodule: Of the tuning data.
        samples: Of `train` to use at most, a fixed random subset; None for all.
        score_share: Share of them that is kept for scores, in (0, 1).
    """
    ids = chosen_ids(datamodule.count("train"), samples)
    if "val" in datamodule.splits:
        return Parts(("train", ids), ("val", chosen_ids(datamodule.count("val"), samples)))
    held_out = chosen_ids(len(ids), max(1, round(score_share * len(ids))))
    kept = np.setdiff1d(np.arange(len(ids)), held_out)
    return Parts(("train", ids[kept]), ("train", ids[held_out]))


def resources_for(model: ClassifierModule, config: DictConfig, recorder: Recorder) -> Resources:
    """What a compressor of `model` may use, as `tuning` of the configuration says."""
    data = _Data(model, config, recorder)
    name = config.tuning.dataset
    return Resources(
        batches=data.batches,
        score=data.score,
        train=partial(data.train, trainer=alone(plain(config.trainer))),
        seed=config.seed,
        tuning_samples=lambda: len(data.parts.tuning[1]),
        said=(OPTIMISTIC.format(name=name),) if data.parts.optimistic else (),
    )


class _Data:
    """Reads nothing before it is asked."""

    def __init__(self, model: ClassifierModule, config: DictConfig, recorder: Recorder) -> None:
        self.tuning, self.seed, self.batch_size = config.tuning, config.seed, config.batch_size
        self.datamodule = recorder.datamodule(config.tuning.dataset, model)
        self.device = device_of(model)

    @cached_property
    def parts(self) -> Parts:
        """Which samples are for what."""
        return parts_of(
            self.datamodule,
            samples=self.tuning.samples,
            score_share=self.tuning.score_share,
        )

    def batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first `count` of the tuning samples, in a fixed random order."""
        split, ids = self.parts.tuning
        order = np.random.default_rng(self.seed).permutation(len(ids))[:count]
        yield from self._given(split, ids[order])

    def score(self, model: nn.Module) -> float:
        """Share of the score samples that the model gets right; a non-finite row is wrong."""
        right = total = 0
        space = self.datamodule.label_space
        with evaluating(model):
            for images, labels in self._given(*self.parts.score):
                logits = model(images)
                logits = logits if space is None else space.restrict(logits)
                hits = (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)
                right += int(hits.sum())
                total += len(labels)
        return right / total

    def train(self, model: nn.Module, *, epochs: int, trainer: Any, **options: Any) -> None:
        """`models.training.fit` on the tuning samples, shuffled by the epoch's number."""
        split, ids = self.parts.tuning
        samples = _Chosen(self.datamodule.dataset(split), ids)
        order = torch.Generator().manual_seed(self.seed)
        loader = DataLoader(
            samples,
            batch_size=self.datamodule.batch_size,
            sampler=RandomSampler(samples, generator=order),
            num_workers=self.datamodule.num_workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),
        )
        fit(model, loader, epochs=epochs, **{"seed": self.seed, "trainer": trainer, **options})

    def _given(self, split: Split, ids: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        dataset = self.datamodule.dataset(split)
        for start in range(0, len(ids), self.batch_size):
            images, labels = dataset.__getitems__(ids[start : start + self.batch_size].tolist())
            yield images.to(self.device), labels.to(self.device)


class _Chosen(Dataset[Any]):
    """Some samples of a dataset, a batch in one call."""

    def __init__(self, dataset: ImageDataset, ids: np.ndarray) -> None:
        self.dataset, self.ids = dataset, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        """Images [B, K, H, W] and labels [B]."""
        return self.dataset.__getitems__(self.ids[positions].tolist())
