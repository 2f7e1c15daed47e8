"""How far the predicted probabilities have moved, whether or not the decision changed."""

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.divergence import js_divergence, kl_divergence, total_variation
from measurements.measurement import PairedMeasurement, ends, mean_interval


class Divergence(PairedMeasurement):
    """Mean divergence of the compressed model's probabilities from the baseline's.

    Reference:
        Kullback & Leibler (1951), in nats, of the baseline from the model; Lin (1991),
        Jensen-Shannon, at most ln 2; total variation, at most 1.
    """

    needs = frozenset({"records", "logits"})
    unit, better, version = "nats", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Mean over samples of KL, Jensen-Shannon and total variation."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            logits, baseline = now.logits, before.logits
            per_sample = {
                "kl": (kl_divergence(logits, baseline=baseline), "nats"),
                "js": (js_divergence(logits, baseline=baseline), "nats"),
                "total_variation": (total_variation(logits, baseline=baseline), "fraction"),
            }
            for measured, (values, unit) in per_sample.items():
                results[metric_key(name, self.split, measured)] = self.value(
                    values.mean().item(), n=len(now), unit=unit, **ends(mean_interval(values))
                )
        return results
