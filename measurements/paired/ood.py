"""What compression does to the detection of foreign images."""

from core.estimate import Estimate
from core.names import metric_key
from measurements.benefits.ood import Detected, OutOfDistribution
from measurements.benefits.ood_features import FeatureOutOfDistribution
from measurements.foreign import place
from measurements.measurement import PairedMeasurement


class OutOfDistributionDelta(PairedMeasurement, OutOfDistribution):
    """Change of every number of `OutOfDistribution`, both models resampled on the same ids.

    Args:
        options: As in `OutOfDistribution`.

    Reference:
        Miller, Adding error bars to evals (2024), paired differences; see `OutOfDistribution`.
    """

    def measure(self) -> dict[str, Estimate]:
        """Compressed minus baseline."""
        results: dict[str, Estimate] = {}
        for name in self.require_foreign():
            for datamodule, view in map(place, [name, *self.foreign.of(name)]):
                self.pair(datamodule, view, classes_of=name)  # refuses different samples
            now, before = (self.found(model, name) for model in (self.model, self.baseline))
            for measured, after in now.items():
                first = before[measured]
                change = Detected(
                    value=after.value - first.value, draws=after.draws - first.draws, n=after.n
                )
                key = metric_key(name, self.split, f"delta_{measured}")
                results[key] = self.estimate(measured, change)
        return results


class FeatureOutOfDistributionDelta(OutOfDistributionDelta, FeatureOutOfDistribution):
    """Change of every number of `FeatureOutOfDistribution`, each model with its own features.

    Args:
        options: As in `FeatureOutOfDistribution`.

    Reference:
        Miller, Adding error bars to evals (2024), paired differences; see
        `FeatureOutOfDistribution`.
    """
