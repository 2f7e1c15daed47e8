"""What compression does to the detection of foreign images."""

from collections.abc import Sequence

from omegaconf import DictConfig

from core.estimate import Estimate
from core.names import metric_key
from measurements.benefits.ood import BETTER, OutOfDistribution, place
from measurements.functional.intervals import DRAWS, percentile_interval
from measurements.measurement import PairedMeasurement, Request, ends
from models.base_model import ClassifierModule


class OutOfDistributionDelta(PairedMeasurement):
    """Change of every number of `OutOfDistribution`, both models resampled on the same ids.

    Args:
        near: Datasets that resemble the model's own.
        far: Datasets that do not.
        draws: Resamples of both sets for the intervals.

    Reference:
        Miller, Adding error bars to evals (2024), paired differences; see `OutOfDistribution`.
    """

    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        near: Sequence[str] = (),
        far: Sequence[str] = (),
        draws: int = DRAWS,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.part = OutOfDistribution(
            datamodule_names, model, experiment_config, near=near, far=far, draws=draws
        )

    def requests(self) -> list[Request]:
        """What the two models are compared on."""
        return self.part.requests()

    def measure(self) -> dict[str, Estimate]:
        """Compressed minus baseline."""
        self.part.require_foreign()
        foreign = {other: self.pair(*place(other)) for other in self.part.foreign}
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            own = self.pair(name)
            now, before = (
                self.part.found(own[side], {key: pair[side] for key, pair in foreign.items()})
                for side in (0, 1)
            )
            for measured, (value, draws) in now.items():
                base, base_draws = before[measured]
                results[metric_key(name, self.split, f"delta_{measured}")] = self.value(
                    value - base,
                    n=len(own[0]),
                    better=BETTER[self.part.quantity(measured)],
                    **ends(percentile_interval(draws - base_draws)),
                )
        return results
