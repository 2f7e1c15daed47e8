"""What compression does to the invariance of the answers."""

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from core.estimate import Estimate
from measurements.functional.intervals import mean_difference_interval
from measurements.measurement import PairedMeasurement, Request, bounded, ends
from measurements.properties.invariance import Invariance, drawn_interval
from models.base_model import ClassifierModule
from recording.records import require_same_samples


class InvarianceDelta(PairedMeasurement):
    """Change of every number of `Invariance`, both models resampled on the same ids.

    Args:
        magnitudes: As in `Invariance`.

    Reference:
        Miller, Adding error bars to evals (2024), paired differences; see `Invariance`.
    """

    needs = frozenset({"records", "logits"})
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        magnitudes: Mapping[str, Sequence[int]],
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.part = Invariance(datamodule_names, model, experiment_config, magnitudes=magnitudes)

    def requests(self) -> list[Request]:
        """What the two models are compared on."""
        self.part.recorder = self.recorder
        return self.part.requests()

    def measure(self) -> dict[str, Estimate]:
        """Compressed minus baseline."""
        self.part.recorder = self.recorder
        results: dict[str, Estimate] = {}
        for name in self.part.datasets():
            require_same_samples(self.records(name), self.baseline_records(name))
            now, before = (self.part.curves(name, model) for model in (self.model, self.baseline))
            for place, (value, draws) in now.scores.items():
                base, base_draws = before.scores[place]
                results[place.key(name, self.split, "invariance", prefix="delta_")] = self.value(
                    value - base,
                    n=now.samples,
                    view=place.view,
                    **ends(drawn_interval(draws - base_draws)),
                )
            for place, same in now.kept.items():
                change = same.double() - before.kept[place].double()
                results[place.key(name, self.split, "consistency", prefix="delta_")] = self.value(
                    change.mean().item(),
                    n=now.samples,
                    view=place.view,
                    **ends(bounded(mean_difference_interval(change))),
                )
        return results
