"""How the features of a model lie: on how many directions, how far apart the classes."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from measurements.functional.class_separation import (
    TIES_AT_MOST,
    vote_accuracy,
    within_class_scatter,
)
from measurements.functional.features import neighbours_of_any
from measurements.functional.intrinsic_dimension import mle_dimension, two_nn_dimension
from measurements.functional.jackknife import GROUPS, Jackknife, delete_group_jackknife
from measurements.functional.rank import (
    effective_rank_of,
    participation_ratio_of,
    spectrum,
)
from measurements.measurement import RecordMeasurement
from models.base_model import ClassifierModule
from recording.key import chosen_ids
from recording.records import Records, require_same_samples

SAMPLES = 2000
"""Rows looked at unless told: the cost of neighbours grows with their square."""

JACKKNIFE_SEED = 0
"""Equal for every measurement: two models leave out the same samples."""


Statistic = Callable[[Tensor], dict[str, float]]
"""Ids of some samples, int64, ascending -> name -> value."""


@dataclass(frozen=True, kw_only=True)
class Representation:
    """Features of some samples and what they are of."""

    features: Tensor  # [N, D] float32, finite
    labels: Tensor  # [N] int64


class FeatureMeasurement(RecordMeasurement):
    """Arithmetic on what the classifier head sees, with a jackknife interval.

    A resample with replacement puts samples next to themselves, so a twentieth of the samples is
    left out, twenty times. Rows whose logits are not finite do not take part.

    Args:
        samples: Rows looked at where there are more: a random subset, the same for every model.
    """

    kind = "property"
    needs = frozenset({"records", "features"})
    fields: ClassVar[dict[str, dict[str, Any]]] = {}  # name -> fields that differ from the class's

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if samples < GROUPS:
            raise ValueError(f"samples is a number of rows, at least {GROUPS}, got {samples}")
        self.samples = samples

    @property
    def fewest(self) -> int:
        """Samples without which there is no value, or none with a group of samples left out."""
        return GROUPS

    @abstractmethod
    def of(self, representation: Representation) -> dict[str, float]:
        """Name -> value, of any subset of the samples."""

    def statistic(self, records: Records) -> dict[str, float]:
        """Values of the chosen rows."""
        rows = chosen_rows([records], self.samples)
        return self.of(representation_at(records, rows))

    def of_any(self, whole: Representation) -> Statistic:
        """`of` for any of the samples; what all of them share can be computed once here."""
        return lambda ids: self.of(taken(whole, ids))

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Values with jackknife intervals."""
        rows = chosen_rows([records], self.samples)
        self._require_enough(len(rows))
        statistic = self.of_any(representation_at(records, rows))
        return self._jackknifed(statistic, len(rows), lowest=0.0)

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Value minus the baseline's value, the same samples left out of both."""
        require_same_samples(records, baseline)
        rows = chosen_rows([records, baseline], self.samples)
        self._require_enough(len(rows))
        now, before = (self.of_any(representation_at(each, rows)) for each in (records, baseline))

        def change(ids: Tensor) -> dict[str, float]:
            after, first = now(ids), before(ids)
            return {name: after[name] - first[name] for name in after}

        return self._jackknifed(change, len(rows), lowest=-1.0)

    def _require_enough(self, n: int) -> None:
        if n < self.fewest:
            raise NotApplicable(f"{n} samples with finite logits, at least {self.fewest} needed")

    def _jackknifed(self, statistic: Statistic, n: int, *, lowest: float) -> dict[str, Estimate]:
        generator = torch.Generator().manual_seed(JACKKNIFE_SEED)
        found = delete_group_jackknife(statistic, n, generator=generator)
        return {name: self._named(name, each, n=n, lowest=lowest) for name, each in found.items()}

    def _named(self, name: str, found: Jackknife, *, n: int, lowest: float) -> Estimate:
        value = self.value(found.value, **{"n": n, **self.fields.get(name, {})})
        value.low, value.high = found.interval
        if value.unit == "fraction":
            value.low, value.high = max(value.low, lowest), min(value.high, 1.0)
        return value


def chosen_rows(of: Sequence[Records], samples: int) -> Tensor:
    """Positions, ascending, of at most `samples` rows that are finite in all of the records.

    Chosen before the broken rows go, so that a broken model moves no other model's rows.
    """
    rows = torch.from_numpy(chosen_ids(len(of[0]), samples))
    finite = torch.stack([records.finite[rows] for records in of]).all(dim=0)
    return rows[finite]


def representation_at(records: Records, rows: Tensor) -> Representation:
    """Features and labels of some rows."""
    return Representation(features=records.take(rows).features, labels=records.label[rows])


def taken(representation: Representation, ids: Tensor) -> Representation:
    """Some samples of a representation."""
    return Representation(features=representation.features[ids], labels=representation.labels[ids])


class FeatureRank(FeatureMeasurement):
    """Number of directions the centred features use, by entropy and by participation.

    Reference:
        Roy & Vetterli, The effective rank (2007); Gao et al., A theory of multineuronal
        dimensionality, dynamics and measurement (2017), participation ratio.
    """

    unit, better, version = "directions", "", 2

    def of(self, representation: Representation) -> dict[str, float]:
        """`effective_rank` and `participation_ratio`."""
        return self.of_any(representation)(torch.arange(len(representation.labels)))

    def of_any(self, whole: Representation) -> Statistic:
        """The same of any samples; the products of all with each other are computed once."""
        singular_values = spectrum(whole.features)

        def of(ids: Tensor) -> dict[str, float]:
            values = singular_values(ids)
            return {
                "effective_rank": effective_rank_of(values),
                "participation_ratio": participation_ratio_of(values),
            }

        return of


class IntrinsicDimension(FeatureMeasurement):
    """Dimension of the surface the features lie on, from distances between neighbours.

    Too low in high dimensions and for few samples: compare models on the same number of samples.

    Args:
        k: Neighbours a sample of the second estimate.
        samples: As in `FeatureMeasurement`.

    Reference:
        Facco et al. (2017), TwoNN; Levina & Bickel (2004), maximum likelihood; of networks:
        Ansuini et al., Intrinsic dimension of data representations in deep neural networks (2019).
    """

    unit, better, version = "dimensions", "", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        k: int = 20,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config, samples=samples)
        if k < 2:
            raise ValueError(f"k is a number of neighbours, at least 2, got {k}")
        self.k = k

    @property
    def fewest(self) -> int:
        """Twice what the estimate by maximum likelihood looks at."""
        return max(GROUPS, 2 * (self.k + 1))

    def of(self, representation: Representation) -> dict[str, float]:
        """`intrinsic_dimension_twonn` and `intrinsic_dimension_mle`."""
        return {
            "intrinsic_dimension_twonn": two_nn_dimension(representation.features),
            "intrinsic_dimension_mle": mle_dimension(representation.features, k=self.k),
        }


class ClassSeparation(FeatureMeasurement):
    """Scatter within against between the classes, and how often neighbours are of one class.

    With few samples a class the scatter within is understated: a class of one has none.

    Args:
        k: Neighbours that vote.
        samples: As in `FeatureMeasurement`.

    Reference:
        Papyan et al., Prevalence of neural collapse (2020), NC1; Cover & Hart (1967), leave-one-out
        nearest neighbours.
    """

    unit, better, version = "", "lower", 2
    fields: ClassVar = {"knn_accuracy": {"unit": "fraction", "better": "higher"}}

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        k: int = 10,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config, samples=samples)
        if not 1 <= k <= TIES_AT_MOST:
            raise ValueError(f"k is a number of voters, in [1, {TIES_AT_MOST}], got {k}")
        self.k = k

    @property
    def fewest(self) -> int:
        """Twice the voters."""
        return max(GROUPS, 2 * (self.k + 1))

    def of(self, representation: Representation) -> dict[str, float]:
        """`nc1` and `knn_accuracy`."""
        return self.of_any(representation)(torch.arange(len(representation.labels)))

    def of_any(self, whole: Representation) -> Statistic:
        """The same of any samples; the neighbours of all are searched once."""
        features, labels = whole.features, whole.labels
        neighbours = neighbours_of_any(features, k=self.k)

        def of(ids: Tensor) -> dict[str, float]:
            return {
                "nc1": within_class_scatter(features[ids], labels[ids]),
                "knn_accuracy": vote_accuracy(labels[neighbours(ids)], labels[ids]),
            }

        return of
