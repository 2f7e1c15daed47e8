"""What corruption costs the compressed model, against what it costs its baseline."""

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import CLEAN, metric_key
from measurements.functional.corruption import ALEXNET_ERRORS, corruption_gap
from measurements.functional.intervals import paired_difference
from measurements.measurement import PairedMeasurement, Request, bounded, ends
from measurements.views import CorruptionViews
from models.base_model import ClassifierModule


class CorruptionGap(PairedMeasurement):
    """Error that corruption adds to the model: minus, and over, what it adds to the baseline.

    The ratio only where what is added to the baseline is certainly not 0.

    Args:
        corruptions: Names of the views without their severity.
        severities: Which of the views `<corruption>_<severity>` are looked at.

    Reference:
        Hendrycks & Dietterich (2019), relative mCE, with the baseline in AlexNet's place.
    """

    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        corruptions: Sequence[str] = tuple(ALEXNET_ERRORS),
        severities: Sequence[int] = (1, 2, 3, 4, 5),
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.corrupted = CorruptionViews(corruptions=corruptions, severities=severities)

    def requests(self) -> list[Request]:
        """Clean records and those of every view, of the datasets that have them."""
        return [
            Request(datamodule=name, split=self.split, view=view)
            for name in self.corrupted.having(self.datamodules)
            for view in (CLEAN, *self.corrupted.names)
        ]

    def measure(self) -> dict[str, Estimate]:
        """Changes of error and of the gap, and `corruption_gap_ratio` where it has a meaning."""
        names = self.corrupted.having(self.datamodules)
        if not names:
            raise NotApplicable(self.corrupted.absent)
        results: dict[str, Estimate] = {}
        unit = {"corruption_gap_ratio": ""}
        for name in names:
            now, before = self._hits(name)
            found = corruption_gap(*now, baseline=before)
            error = paired_difference((before[1].double() - now[1].double()).mean(dim=1))
            values = {
                "delta_mean_corruption_error": (error.mean, bounded(error.interval)),
                "delta_corruption_gap": (found.difference, found.difference_interval),
            }
            if found.ratio is not None and found.interval is not None:
                values["corruption_gap_ratio"] = (found.ratio, found.interval)
            for measured, (value, interval) in values.items():
                results[metric_key(name, self.split, measured)] = self.value(
                    value, n=len(now[0]), unit=unit.get(measured, self.unit), **ends(interval)
                )
        return results

    def _hits(self, name: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Of both models: hits on clean images [N] and on every view of them [N, V]."""
        clean = self.pair(name)
        views = [self.pair(name, view) for view in self.corrupted.names]
        now, before = (
            (clean[side].correct, torch.stack([pair[side].correct for pair in views], dim=1))
            for side in (0, 1)
        )
        return now, before
