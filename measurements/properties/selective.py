"""Does the model know when it is wrong?"""

from collections.abc import Sequence

from omegaconf import DictConfig

from measurements.functional.selective import risk_coverage
from measurements.measurement import RecordMeasurement
from models.base_model import ClassifierModule
from recording.records import Records


class SelectivePrediction(RecordMeasurement):
    """Risk when the least confident samples are refused, over all shares that are kept.

    Samples are ranked by the margin logit, which still orders where the softmax has saturated.

    Reference:
        Geifman & El-Yaniv, Bias-reduced uncertainty estimation (2019), AURC and E-AURC;
        Traub et al., Overcoming common flaws in the evaluation of selective classification (2024),
        AUGRC.
    """

    kind = "property"
    unit, better, version = "", "lower", 1

    def statistic(self, records: Records) -> dict[str, float]:
        """AURC, its excess over the best possible order, and AUGRC."""
        curve = risk_coverage(records.margin_logit, records.correct)
        return {"aurc": curve.aurc, "eaurc": curve.eaurc, "augrc": curve.augrc}


class RiskAtCoverage(RecordMeasurement):
    """Share of errors among the 80 % of the samples the model is surest of.

    Reference:
        El-Yaniv & Wiener, On the foundations of noise-free selective classification (2010).
    """

    kind = "property"
    unit, better, version = "fraction", "lower", 1
    coverage = 0.8

    def statistic(self, records: Records) -> dict[str, float]:
        """Risk at a coverage of 80 %."""
        curve = risk_coverage(records.margin_logit, records.correct)
        return {f"risk_at_coverage_{self.coverage * 100:.0f}": curve.risk_at(self.coverage)}


class CoverageAtRisk(RecordMeasurement):
    """Largest share of the samples, surest first, of which few enough are errors; 0 where none is.

    Args:
        risk: Share of errors that is allowed among the samples answered.

    Reference:
        El-Yaniv & Wiener, On the foundations of noise-free selective classification (2010).
    """

    kind = "property"
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        risk: float = 0.05,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if not 0 <= risk <= 1:
            raise ValueError(f"risk is a share of errors, in [0, 1], got {risk}")
        self.risk = risk

    def statistic(self, records: Records) -> dict[str, float]:
        """`coverage_at_risk_<percent>`, with `_` for a decimal point."""
        percent = f"{self.risk * 100:.6g}".replace(".", "_")
        curve = risk_coverage(records.margin_logit, records.correct)
        return {f"coverage_at_risk_{percent}": curve.coverage_at(self.risk)}
