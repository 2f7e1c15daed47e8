"""Calibration beyond equal-width bins of the best class, and after temperature scaling."""

from torch import Tensor

from core.estimate import Estimate
from measurements.functional import calibration_family
from measurements.functional.calibration import calibration_error
from measurements.functional.intervals import Interval, mean_difference_interval
from measurements.functional.temperature import Scaled, cross_fitted
from measurements.measurement import RecordMeasurement, mean_interval
from recording.records import Records

SCALED_UNITS = {"nll_scaled": "nats", "ece_scaled": "fraction", "temperature": ""}


class AdaptiveCalibrationError(RecordMeasurement):
    """Calibration error over 15 bins of equally many samples; biased upward, so without interval.

    Reference:
        Nixon et al., Measuring calibration in deep learning (2019), of the predicted class.
    """

    kind = "property"
    unit, better, version = "fraction", "lower", 1
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """Adaptive ECE."""
        error = calibration_family.adaptive_calibration_error(records.confidence, records.correct)
        return {"ece_adaptive": error}


class SmoothCalibrationError(RecordMeasurement):
    """Calibration error by kernel smoothing: no bins, no jumps; shown without interval.

    Reference:
        Blasiok & Nakkiran, Smooth ECE (2023).
    """

    kind = "property"
    unit, better, version = "fraction", "lower", 1
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """Smooth ECE."""
        error = calibration_family.smooth_calibration_error(records.confidence, records.correct)
        return {"ece_smooth": error}


class ClasswiseCalibrationError(RecordMeasurement):
    """Calibration error of every class's probability, the mean over classes; without interval.

    Reference:
        Kull et al., Beyond temperature scaling (2019), equation 3.
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "fraction", "lower", 1
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """Class-wise ECE."""
        error = calibration_family.classwise_calibration_error(records.logits, records.label)
        return {"ece_classwise": error}


class TemperatureScaling(RecordMeasurement):
    """What is left of likelihood and calibration error once the sharpness is set right.

    Two halves by a hash of the id; each is scaled by the temperature fitted on the other. The
    interval of the likelihood holds the two temperatures fixed.

    Reference:
        Guo et al., On calibration of modern neural networks (2017), section 4.2.
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "nats", "lower", 1

    def statistic(self, records: Records) -> dict[str, float]:
        """NLL and ECE after scaling, and the geometric mean of the temperatures."""
        return _summary(_scaled(records), records.correct)

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Values, fitted once, with the units each has."""
        scaled = _scaled(records)
        interval = mean_interval(-scaled.log_p_label)
        return self._named(_summary(scaled, records.correct), interval, n=len(records))

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Change of the values, paired for the likelihood."""
        now, before = _scaled(records), _scaled(baseline)
        interval = mean_difference_interval(before.log_p_label - now.log_p_label)
        after, first = _summary(now, records.correct), _summary(before, baseline.correct)
        change = {name: after[name] - first[name] for name in after}
        return self._named(change, interval, n=len(records))

    def _named(self, values: dict[str, float], of_nll: Interval, *, n: int) -> dict[str, Estimate]:
        found = {
            name: self.value(value, n=n, unit=SCALED_UNITS[name]) for name, value in values.items()
        }
        found["nll_scaled"].low, found["nll_scaled"].high = of_nll
        found["temperature"].better = ""
        return found


def _scaled(records: Records) -> Scaled:
    return cross_fitted(records.logits, records.label, records.sample_id)


def _summary(scaled: Scaled, correct: Tensor) -> dict[str, float]:
    return {
        "nll_scaled": -scaled.log_p_label.mean().item(),
        "ece_scaled": calibration_error(scaled.confidence, correct),
        "temperature": scaled.temperature,
    }
