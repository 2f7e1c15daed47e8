"""What a measurement is: inputs fetched, a number computed, a name given."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch import Tensor

from core.configuration import plain
from core.errors import NotApplicable
from core.estimate import Better, Estimate
from core.names import CLEAN, MODEL, Split, metric_key
from datamodules.base import ImageDataModule
from measurements.functional.intervals import (
    DRAWS,
    Interval,
    bootstrap_draws,
    bootstrap_means,
    mean_difference_interval,
    percentile_interval,
    wilson_interval,
)
from models.base_model import ClassifierModule
from recording.loop import threads_set
from recording.ranks import alone
from recording.recorder import Recorder
from recording.records import Records, require_same_samples
from store.shards import PARTS
from store.stored import Part

Need = Literal["records", "logits", "features", "images", "gradients", "weights", "timing"]
"""`images`: it runs the model on some images itself; `gradients`: it differentiates the model."""

Kind = Literal["property", "benefit", "paired"]

BOOTSTRAP_SEED = 0
"""Equal for every measurement: two models resampled with it are resampled in pairs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Records a measurement is going to read."""

    datamodule: str
    split: Split
    view: str = CLEAN
    parts: frozenset[Part] = frozenset()
    samples: int | None = None  # only so many of them, as in `Recorder.records`
    classes_of: str = ""  # as in `Recorder.choice`: of foreign images only


class Measurement(ABC):
    """Base class of every measurement; subclass it, and `measure()` is all you owe.

    A plain loop over `self.datamodules` and `self.model` is fine. A measurement that only needs
    what the model said should read `self.records(...)` instead, which costs no forward pass when
    another measurement, or an earlier evaluation, has caused it already.

    Args:
        datamodule_names: Entries of the dataset library this measurement looks at.
        model: The classifier; `model.baseline` is what it was compressed from, or None.
        experiment_config: The whole configuration of the evaluation.
    """

    kind: ClassVar[Kind]
    needs: ClassVar[frozenset[Need]] = frozenset({"records"})
    unit: ClassVar[str] = ""
    better: ClassVar[Better] = ""
    version: ClassVar[int] = 1
    split: ClassVar[Split] = "test"
    views: ClassVar[tuple[str, ...]] = (CLEAN,)
    deterministic: ClassVar[bool] = True

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
    ) -> None:
        self.datamodule_names = list(datamodule_names)
        self.model = model
        self.experiment_config = experiment_config

    @abstractmethod
    def measure(self) -> Mapping[str, float]:
        """Return `<datamodule>_<split>_<name>` -> value.

        Raises:
            core.errors.NotApplicable: The question has no meaning for this model.
        """

    @cached_property
    def recorder(self) -> Recorder:
        """Where records come from; an evaluation hands one recorder to all its measurements."""
        return Recorder.from_config(self.experiment_config)

    @cached_property
    def datamodules(self) -> dict[str, ImageDataModule]:
        """Datamodules by name, with the model's preprocessing; nothing is read before `setup()`."""
        return {name: self.recorder.datamodule(name, self.model) for name in self.datamodule_names}

    @cached_property
    def trainer(self) -> pl.Trainer:
        """A trainer as configured, for measurements that run the model themselves."""
        return pl.Trainer(**alone(plain(self.experiment_config.trainer)))

    @classmethod
    def split_up(cls, config: DictConfig) -> dict[str, dict[str, Any]]:
        """Cell name -> further arguments, where one library entry is several cells; else empty."""
        return {}

    def requests(self) -> list[Request]:
        """Records `measure()` will read; the evaluation makes them before, once for everybody."""
        if not self.needs & {"records", *PARTS}:
            return []
        return [
            Request(datamodule=name, split=self.split, view=view, parts=self.parts)
            for name in self.datamodule_names
            for view in self.views
        ]

    def records(
        self,
        datamodule: str,
        split: Split | None = None,
        view: str = CLEAN,
        *,
        samples: int | None = None,
        classes_of: str = "",
    ) -> Records:
        """What the model said about a view; recorded now where it is not in the store."""
        return self.records_of(
            self.model, datamodule, split, view, samples=samples, classes_of=classes_of
        )

    def definition(self) -> dict[str, Any]:
        """What, beside the records, decides the value: part of the cell's key. JSON."""
        return {"version": self.version}

    def value(self, number: float, **fields: Any) -> Estimate:
        """An `Estimate` with this measurement's unit and direction."""
        return Estimate(number, **{"unit": self.unit, "better": self.better, **fields})

    @property
    def parts(self) -> frozenset[Part]:
        """What it reads beside the columns."""
        return frozenset(part for part in PARTS if part in self.needs)

    def records_of(
        self,
        model: ClassifierModule,
        datamodule: str,
        split: Split | None = None,
        view: str = CLEAN,
        *,
        samples: int | None = None,
        classes_of: str = "",
    ) -> Records:
        """What any model said about a view, with what this measurement reads."""
        return self.recorder.records(
            model,
            datamodule,
            split or self.split,
            view,
            needs=self.parts,
            samples=samples,
            classes_of=classes_of,
        )


class ModelMeasurement(Measurement):
    """A measurement of the model alone; its datamodule name is the reserved `model`."""

    needs = frozenset({"weights"})

    def key(self, measured: str) -> str:
        """Result key of a value that belongs to no dataset."""
        return metric_key(MODEL, self.split, measured)


class RecordMeasurement(Measurement):
    """A number that is arithmetic on records, with its interval and its paired difference.

    Subclasses give `statistic`, a pure function that works on any resample. `measure` adds a
    bootstrap interval, and `measurements.paired.delta` derives the difference between two models on
    the same samples. Set `has_interval = False` where resampling is known to mislead.
    """

    has_interval: ClassVar[bool] = True
    draws: ClassVar[int] = DRAWS

    @abstractmethod
    def statistic(self, records: Records) -> dict[str, float]:
        """Name -> value, of these records or of any resample of them."""

    def measure(self) -> dict[str, Estimate]:
        """Value and 95 % interval of the statistic for every dataset and view."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            for view in self.views:
                records = self.records(name, view=view)
                for measured, estimate in self.estimate(records).items():
                    estimate.view = view
                    results[metric_key(name, self.split, measured, view)] = estimate
        return results

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Value and interval of every number of the statistic."""
        values, intervals = self.statistic(records), self.intervals(records)
        return {
            name: self.value(value, n=len(records), **ends(intervals.get(name)))
            for name, value in values.items()
        }

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Value minus the baseline's value, with the interval of the paired difference."""
        require_same_samples(records, baseline)
        now, before = self.statistic(records), self.statistic(baseline)
        intervals = self.difference_intervals(records, baseline)
        return {
            name: self.value(now[name] - before[name], n=len(records), **ends(intervals.get(name)))
            for name in now
        }

    def intervals(self, records: Records) -> dict[str, Interval]:
        """95 % interval by name; a name that has none is left out."""
        if not self.has_interval:
            return {}
        return {name: percentile_interval(draws) for name, draws in self._draws(records).items()}

    def difference_intervals(self, records: Records, baseline: Records) -> dict[str, Interval]:
        """95 % interval of the difference: both models are resampled on the same ids."""
        if not self.has_interval:
            return {}
        now, before = self._draws(records), self._draws(baseline)
        return {name: percentile_interval(now[name] - before[name]) for name in now}

    def _draws(self, records: Records) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
        with threads_set(1):  # thousands of small operations: waiting for each other costs more
            return bootstrap_draws(
                lambda ids: self.statistic(records.take(ids)),
                len(records),
                draws=self.draws,
                generator=generator,
            )


class MeanMeasurement(RecordMeasurement):
    """A statistic that is the mean of one number a sample: its intervals need no resampling loop.

    Proportions, whose `per_sample` is bool, get a Wilson interval, other means a bootstrap one, and
    paired differences the normal interval of the mean difference.
    """

    @abstractmethod
    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Name -> one value a sample, [n]; bool for a proportion."""

    def statistic(self, records: Records) -> dict[str, float]:
        """Means of the per-sample values."""
        return {name: x.double().mean().item() for name, x in self.per_sample(records).items()}

    def intervals(self, records: Records) -> dict[str, Interval]:
        """Wilson or bootstrap, by the type of the values."""
        return {name: mean_interval(x) for name, x in self.per_sample(records).items()}

    def difference_intervals(self, records: Records, baseline: Records) -> dict[str, Interval]:
        """Normal interval of the mean of the per-sample differences."""
        now, before = self.per_sample(records), self.per_sample(baseline)
        found = {
            name: mean_difference_interval(now[name].double() - before[name].double())
            for name in now
        }
        return {
            name: bounded(interval) if now[name].dtype == torch.bool else interval
            for name, interval in found.items()
        }


def mean_interval(values: Tensor) -> Interval:
    """95 % interval of the mean of `values` [n]: Wilson for bool, else percentile bootstrap."""
    if values.dtype == torch.bool:
        return wilson_interval(int(values.sum()), len(values))
    generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
    return percentile_interval(bootstrap_means(values, generator=generator))


def bounded(interval: Interval) -> Interval:
    """Interval of a difference of two fractions, which cannot leave [-1, 1]."""
    return Interval(max(interval.low, -1.0), min(interval.high, 1.0))


def ends(interval: Interval | None) -> dict[str, float | None]:
    """An interval as the fields of an `Estimate`."""
    return {"low": interval.low, "high": interval.high} if interval else {"low": None, "high": None}


class PairedMeasurement(Measurement):
    """A comparison of a model with its baseline on the same samples."""

    kind: ClassVar[Kind] = "paired"

    def baseline_records(
        self, datamodule: str, split: Split | None = None, view: str = CLEAN
    ) -> Records:
        """What the baseline said about a view."""
        return self.records_of(self.baseline, datamodule, split, view)

    @property
    def baseline(self) -> ClassifierModule:
        """What the model is compared with.

        Raises:
            NotApplicable: It has no baseline.
        """
        if self.model.baseline is None:
            raise NotApplicable("the model has no baseline to compare with")
        return self.model.baseline

    def pair(
        self, datamodule: str, view: str = CLEAN, *, classes_of: str = ""
    ) -> tuple[Records, Records]:
        """Records of the model and of its baseline, on the same samples."""
        now, before = (
            self.records_of(model, datamodule, view=view, classes_of=classes_of)
            for model in (self.model, self.baseline)
        )
        require_same_samples(now, before)
        return now, before
