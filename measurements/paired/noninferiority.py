"""Is the compressed model certainly no worse than can be borne?"""

from collections.abc import Sequence

from omegaconf import DictConfig

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.intervals import paired_difference
from measurements.functional.multiplicity import non_inferiority
from measurements.measurement import PairedMeasurement
from models.base_model import ClassifierModule


class NonInferiority(PairedMeasurement):
    """Lower end of the interval of the accuracy difference against a bearable loss.

    Args:
        margin: Bearable loss, a fraction; None = 1 % of the baseline's accuracy.

    Reference:
        Blackwelder, "Proving the null hypothesis" in clinical trials (1982); MLPerf's 99 % rule.
    """

    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        margin: float | None = None,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if margin is not None and not 0 <= margin <= 1:
            raise ValueError(f"margin is a bearable loss of accuracy, in [0, 1], got {margin}")
        self.margin = margin

    def measure(self) -> dict[str, Estimate]:
        """`noninferior` and `inferior` as 1 or 0 (both 0: undecided), slack and margin."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            change = paired_difference(now.correct.double() - before.correct.double())
            found = non_inferiority(
                change.interval,
                baseline_accuracy=before.correct.double().mean().item(),
                margin=self.margin,
            )
            is_yes, is_no = (found.verdict == text for text in ("non-inferior", "inferior"))
            values = {
                "noninferior": self.value(is_yes, n=len(now), unit="yes"),
                "inferior": self.value(is_no, n=len(now), unit="yes", better="lower"),
                "noninferiority_slack": self.value(found.slack, n=len(now)),
                "noninferiority_margin": self.value(found.margin, n=len(now), better=""),
            }
            results |= {metric_key(name, self.split, key): value for key, value in values.items()}
        return results
