"""What corruption costs the compressed model, against what it costs its baseline."""

from collections.abc import Iterator

import torch
from torch import Tensor

from core.estimate import Estimate
from core.names import metric_key
from measurements.corrupted import CorruptedMeasurement
from measurements.functional.corruption import corruption_gap
from measurements.functional.intervals import paired_difference
from measurements.measurement import PairedMeasurement, bounded, ends, mean_interval


class CorruptionGap(PairedMeasurement, CorruptedMeasurement):
    """Error that corruption adds to the model: minus, and over, what it adds to the baseline.

    The ratio only where what is added to the baseline is certainly not 0.

    Args:
        corruptions: Names of the views without their severity.
        severities: Which of the views `<corruption>_<severity>` are looked at.

    Reference:
        Hendrycks & Dietterich (2019), relative mCE, with the baseline in AlexNet's place.
    """

    unit, better, version = "fraction", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Changes of error and of the gap, and `corruption_gap_ratio` where it has a meaning."""
        results: dict[str, Estimate] = {}
        unit = {"corruption_gap_ratio": ""}
        for name in self.require_corrupted():
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


class CorruptionFlips(PairedMeasurement, CorruptedMeasurement):
    """Predictions that compression changes on corrupted images, and those of them it breaks.

    Of each corruption the mean over its severities, and the mean over all corruptions.

    Args:
        corruptions: Names of the views without their severity.
        severities: Which of the views `<corruption>_<severity>` are looked at.

    Reference:
        Yan et al., Positive-congruent training (2021), negative flip rate; Milani Fard et al.
        (2016), churn; here on corrupted images.
    """

    unit, better, version = "fraction", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """`corruption_churn` and `corruption_negative_flips`, of each corruption and of all."""
        return {
            metric_key(name, self.split, measured): value
            for name in self.require_corrupted()
            for measured, value in self._values(name)
        }

    def _values(self, name: str) -> Iterator[tuple[str, Estimate]]:
        flips: dict[str, list[Tensor]] = {"churn": [], "negative_flips": []}
        for corruption, views in self.corrupted.by_corruption.items():
            pairs = [self.pair(name, view) for view in views]
            changed = [now.predicted != before.predicted for now, before in pairs]
            broken = [before.correct & ~now.correct for now, before in pairs]
            for measured, of_views in (("churn", changed), ("negative_flips", broken)):
                of_sample = torch.stack(of_views).double().mean(dim=0)
                flips[measured].append(of_sample)
                yield f"corruption_{measured}_{corruption}", self._mean(of_sample)
        for measured, of_corruptions in flips.items():
            yield f"mean_corruption_{measured}", self._mean(torch.stack(of_corruptions).mean(dim=0))

    def _mean(self, of_sample: Tensor) -> Estimate:
        interval = mean_interval(of_sample)
        return self.value(of_sample.mean().item(), n=len(of_sample), **ends(interval))
