"""Does the model know foreign images by what its classifier head sees?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from measurements.benefits.ood import OutOfDistribution, Score
from measurements.foreign import Named
from measurements.functional.intervals import DRAWS
from measurements.functional.ood_features import knn_scores, mahalanobis_scores
from models.base_model import ClassifierModule
from recording.loop import evaluating
from recording.records import Records


class FeatureOutOfDistribution(OutOfDistribution):
    """How well the distance to training images, in features, tells foreign images.

    The features are what the classifier head sees. They are compared with those of `fit_samples`
    images of the train split, the fixed random subset that `limit_samples` would choose, without
    augmentation. Two scores: `knn`, the distance to the k-th nearest of them, and `mahalanobis`,
    that to the nearest class mean. Images with a non-finite feature score lowest.

    Args:
        near: As in OutOfDistribution.
        far: As in OutOfDistribution.
        known: As in OutOfDistribution.
        draws: As in OutOfDistribution.
        fit_samples: Images of the train split.
        neighbours: k of the nearest neighbours; all samples where there are fewer.

    Reference:
        Sun et al., Out-of-distribution detection with deep nearest neighbors (2022); Lee et al., A
        simple unified framework for detecting out-of-distribution samples (2018).
    """

    needs = frozenset({"records", "features", "images"})
    version = 2

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        near: Sequence[str] | None = None,
        far: Sequence[str] | None = None,
        known: Named | None = None,
        draws: int = DRAWS,
        fit_samples: int = 5000,
        neighbours: int = 50,
    ) -> None:
        super().__init__(
            datamodule_names,
            model,
            experiment_config,
            near=near,
            far=far,
            known=known,
            draws=draws,
        )
        self.fit_samples, self.neighbours = fit_samples, neighbours

    @property
    def with_foreign(self) -> list[str]:
        """Datasets that foreign sets are named for and that have a train split."""
        return [name for name in super().with_foreign if not self.datamodules[name].faults("train")]

    def require_foreign(self) -> list[str]:
        """Also refuses datasets of which no train split is there."""
        named = super().with_foreign
        if named and not self.with_foreign:
            faults = [fault for name in named for fault in self.datamodules[name].faults("train")]
            raise NotApplicable(f"no training images to compare with: {'; '.join(faults)}")
        return super().require_foreign()

    def definition(self) -> dict[str, Any]:
        """Changes with the training images."""
        names = self.with_foreign
        train = {name: self.recorder.manifest(name, "train", self.model) for name in names}
        return {**super().definition(), "train": train}

    def scores(self, model: ClassifierModule, name: str) -> Mapping[str, Score]:
        """Both scores, fitted to what the model makes of the training images."""
        reference, labels = self._reference(model, name)
        k = min(self.neighbours, len(reference))
        found = {
            "knn": partial(knn_scores, reference=reference, k=k),
            "mahalanobis": partial(mahalanobis_scores, reference=reference, labels=labels),
        }
        return {title: partial(_of_records, score) for title, score in found.items()}

    def _reference(self, model: ClassifierModule, name: str) -> tuple[Tensor, Tensor]:
        """Features [N, D] and labels [N] of the training images, on the CPU."""
        batches = self.recorder.images(model, name, "train", samples=self.fit_samples)
        with evaluating(model):
            seen = [(model.forward_features(one.images).cpu(), one.labels.cpu()) for one in batches]
        features, labels = (torch.cat(parts).clone() for parts in zip(*seen, strict=True))
        kept = features.isfinite().all(dim=1)
        if kept.sum() < 2:
            raise NotApplicable(f"the features of {name}'s training images are not finite")
        return features[kept], labels[kept]


def _of_records(score: Callable[[Tensor], Tensor], records: Records) -> Tensor:
    features = records.features
    finite = features.isfinite().all(dim=1)
    scores = torch.full((len(features),), -torch.inf, dtype=torch.float64)
    if finite.any():
        scores[finite] = score(features[finite])
    return scores
