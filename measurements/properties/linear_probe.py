"""What a linear classifier finds in the features of a model."""

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from measurements.functional.intervals import mean_difference_interval
from measurements.functional.probes import FOLDS, linear_probe
from measurements.measurement import MeanMeasurement, bounded, ends, mean_interval
from measurements.properties.representation import SAMPLES, chosen_rows, representation_at
from models.base_model import ClassifierModule
from recording.records import Records, require_same_samples

FOLD_SEED = 0
"""Equal for every model, so that the samples of a class are dealt out alike."""


class LinearProbe(MeanMeasurement):
    """Accuracy of a logistic regression on the features, each sample judged by what others teach.

    Needs no head, so it says what the features hold where pruning or a shift has spoilt the head.
    Rows whose logits are not finite do not take part.

    Args:
        folds: Parts the samples of every class are dealt into.
        strength: Inverse strength of the L2 penalty.
        samples: Rows looked at where there are more: a random subset, the same for every model.

    Reference:
        Alain & Bengio, Understanding intermediate layers using linear classifier probes (2016).
    """

    kind = "property"
    needs = frozenset({"records", "features"})
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        folds: int = FOLDS,
        strength: float = 1.0,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if folds < 2 or strength <= 0:
            raise ValueError(
                f"folds is at least 2 and strength above 0, got folds={folds}, strength={strength}"
            )
        self.folds, self.strength, self.samples = folds, strength, samples

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Whether the probe is right, bool [N] of the chosen rows."""
        return {"linear_probe_accuracy": self._hits(records, chosen_rows([records], self.samples))}

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Accuracy with its Wilson interval; the probe is fitted once."""
        return {
            name: self.value(hits.double().mean().item(), n=len(hits), **ends(mean_interval(hits)))
            for name, hits in self.per_sample(records).items()
        }

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Change of the accuracy on the same samples."""
        require_same_samples(records, baseline)
        rows = chosen_rows([records, baseline], self.samples)
        change = self._hits(records, rows).double() - self._hits(baseline, rows).double()
        interval = bounded(mean_difference_interval(change))
        mean = change.mean().item()
        return {"linear_probe_accuracy": self.value(mean, n=len(rows), **ends(interval))}

    def _hits(self, records: Records, rows: Tensor) -> Tensor:
        labels = records.label[rows]
        self._require_enough(labels)
        predicted = linear_probe(
            representation_at(records, rows).features,
            labels,
            generator=torch.Generator().manual_seed(FOLD_SEED),
            folds=self.folds,
            strength=self.strength,
        )
        return predicted == labels

    def _require_enough(self, labels: Tensor) -> None:
        counts = labels.unique(return_counts=True)[1]
        if len(counts) < 2:
            raise NotApplicable("a probe needs samples of two classes")
        if (fewest := int(counts.min())) < self.folds:
            raise NotApplicable(
                f"a class has {fewest} of the {len(labels)} samples, {self.folds} folds need "
                f"{self.folds}; more samples or fewer folds would do"
            )
