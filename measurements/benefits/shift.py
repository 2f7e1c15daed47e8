"""Accuracy where the images are not those the model was tuned on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.corrupted import SEVERITIES, CorruptedMeasurement
from measurements.functional.corruption import (
    ALEXNET_ERRORS,
    alexnet_mce,
    alexnet_relative_mce,
    mean_corruption_error,
)
from measurements.functional.shift import accuracy_gap, effective_robustness, published_line
from measurements.measurement import Measurement, Request, ends, mean_interval
from models.base_model import ClassifierModule
from recording.records import Records


class NaturalShift(Measurement):
    """Accuracy lost on other photographs of the same classes, and what is left of it.

    Of the datasets that are evaluated, all but the reference count as shifted. Effective robustness
    is accuracy beyond a line through five uncompressed models, where one is shipped.

    Args:
        reference: Dataset without the shift.

    Reference:
        Taori et al., Measuring robustness to natural distribution shifts (2020); the line is fitted
        to accuracies that timm publishes.
    """

    kind = "benefit"
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        reference: str = "imagenet",
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.reference = reference
        self.shifted = [name for name in datamodule_names if name != reference]

    @property
    def obstacle(self) -> str:
        """Why there is nothing to compare; empty where there is."""
        if self.reference not in self.datamodule_names:
            return f"the reference {self.reference} is not among the datasets that are evaluated"
        return "" if self.shifted else f"no dataset beside the reference {self.reference}"

    def requests(self) -> list[Request]:
        """Nothing where there is nothing to compare."""
        return [] if self.obstacle else super().requests()

    def measure(self) -> dict[str, Estimate]:
        """`shift_gap` for each shifted dataset, and `effective_robustness` where a line is."""
        if self.obstacle:
            raise NotApplicable(self.obstacle)
        return {
            metric_key(name, self.split, measured): value
            for name in self.shifted
            for measured, value in self._values(name)
        }

    def _values(self, name: str) -> Iterator[tuple[str, Estimate]]:
        before, after = self.records(self.reference).correct, self.records(name).correct
        found = accuracy_gap(
            int(before.sum()), len(before), shifted_hits=int(after.sum()), shifted_n=len(after)
        )
        yield "shift_gap", self.value(found.gap, n=len(after), **ends(found.interval))
        try:
            line = published_line(name)
            beyond = effective_robustness(
                before.double().mean().item(), after.double().mean().item(), line=line
            )
        except NotApplicable:
            return  # a dataset without a line has a gap all the same
        yield "effective_robustness", self.value(beyond, n=len(after), better="higher")


class CorruptionError(CorruptedMeasurement):
    """Error on corrupted images: each corruption, their mean, and what they add to the clean error.

    Against AlexNet (mCE) only for the datasets that are ImageNet-C itself, and only with all its 15
    corruptions and five severities: the constants belong to those files.

    Args:
        corruptions: Names of the views without their severity.
        severities: Which of the views `<corruption>_<severity>` are looked at.
        imagenet_c: Datasets whose corruptions are the files of ImageNet-C.

    Reference:
        Hendrycks & Dietterich, Benchmarking neural network robustness (2019), section 4.
    """

    kind = "benefit"
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        corruptions: Sequence[str] = tuple(ALEXNET_ERRORS),
        severities: Sequence[int] = SEVERITIES,
        imagenet_c: Sequence[str] = ("imagenet_c",),
    ) -> None:
        super().__init__(
            datamodule_names,
            model,
            experiment_config,
            corruptions=corruptions,
            severities=severities,
        )
        self.imagenet_c = list(imagenet_c)

    @property
    def is_complete(self) -> bool:
        """Whether AlexNet's constants, means over all five severities, can be compared with."""
        has_all = set(ALEXNET_ERRORS) <= set(self.corrupted.corruptions)
        return has_all and set(self.corrupted.severities) == set(SEVERITIES)

    def measure(self) -> dict[str, Estimate]:
        """`corruption_error_<corruption>`, `mean_corruption_error`, `corruption_gap`, mCE."""
        return {
            metric_key(name, self.split, measured): value
            for name in self.require_corrupted()
            for measured, value in self._values(name)
        }

    def _values(self, name: str) -> Iterator[tuple[str, Estimate]]:
        clean = self._wrong(self.records(name))
        errors = {
            corruption: torch.stack([self._wrong(self.records(name, view=view)) for view in views])
            for corruption, views in self.corrupted.by_corruption.items()
        }
        for corruption, wrong in errors.items():
            yield f"corruption_error_{corruption}", self._mean(wrong.mean(dim=0))
        of_sample = torch.stack([wrong.mean(dim=0) for wrong in errors.values()]).mean(dim=0)
        means = {key: wrong.mean(dim=1).tolist() for key, wrong in errors.items()}
        yield (
            "mean_corruption_error",
            self.value(
                mean_corruption_error(means), n=len(clean), **ends(mean_interval(of_sample))
            ),
        )
        yield "corruption_gap", self._mean(of_sample - clean)
        if name in self.imagenet_c and self.is_complete:
            yield from self._against_alexnet(means, clean)

    def _against_alexnet(
        self, means: Mapping[str, Sequence[float]], clean: Tensor
    ) -> Iterator[tuple[str, Estimate]]:
        fields: dict[str, Any] = {"n": len(clean), "unit": "%"}
        yield "mce", self.value(alexnet_mce(means), **fields)
        relative = alexnet_relative_mce(means, clean_error=clean.mean().item())
        yield "relative_mce", self.value(relative, **fields)

    @staticmethod
    def _wrong(records: Records) -> Tensor:
        return (~records.correct).double()

    def _mean(self, of_sample: Tensor) -> Estimate:
        interval = mean_interval(of_sample)
        return self.value(of_sample.mean().item(), n=len(of_sample), **ends(interval))
