"""Prediction sets with a promised coverage: how large must they be?"""

from collections.abc import Sequence
from typing import get_args

from omegaconf import DictConfig
from torch import Tensor

from core.estimate import Estimate
from measurements.functional.conformal import Method, split_conformal
from measurements.functional.intervals import mean_difference_interval
from measurements.measurement import MeanMeasurement, bounded, ends, mean_interval
from models.base_model import ClassifierModule
from recording.records import Records, require_same_samples


class ConformalPrediction(MeanMeasurement):
    """Coverage and size of the sets that promise to miss the label in at most `miss` of the cases.

    Calibrated on one half of the samples by a hash of the id and judged on the other. The intervals
    take the calibration half as given: coverage then varies around 1 - miss by itself.

    Args:
        miss: Allowed share of sets without the label, in (0, 1).

    Reference:
        Sadinle et al. (2019) for LAC; Romano et al. (2020) for APS, with its random part taken from
        a hash of the id.
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "fraction", "", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        miss: float = 0.1,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if not 0 < miss < 1:
            raise ValueError(f"miss is the allowed share of misses, in (0, 1), got {miss}")
        self.miss = miss

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Covered or not, and classes in the set, of the half that is judged, [M]."""
        found: dict[str, Tensor] = {}
        for method in get_args(Method):
            sets = split_conformal(
                records.logits, records.label, records.sample_id, method=method, miss=self.miss
            )
            found[f"conformal_coverage_{method}"] = sets.covered
            found[f"conformal_size_{method}"] = sets.sizes.double()
        return found

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Means over the half that is judged, with its n; the sets are made once."""
        return {
            name: self._value(name, values, ends(mean_interval(values)))
            for name, values in self.per_sample(records).items()
        }

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Change of the means, on the same half of the samples."""
        require_same_samples(records, baseline)
        now, before = self.per_sample(records), self.per_sample(baseline)
        found = {}
        for name, values in now.items():
            change = values.double() - before[name].double()
            interval = mean_difference_interval(change)
            is_share = not name.startswith("conformal_size")
            found[name] = self._value(
                name, change, ends(bounded(interval) if is_share else interval)
            )
        return found

    def _value(self, name: str, values: Tensor, interval: dict[str, float | None]) -> Estimate:
        mean = values.double().mean().item()
        if name.startswith("conformal_size"):
            return self.value(mean, n=len(values), unit="classes", better="lower", **interval)
        return self.value(mean, n=len(values), **interval)
