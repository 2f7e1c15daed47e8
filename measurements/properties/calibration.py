"""Does the confidence of a model mean what it says?"""

from torch import Tensor

from measurements.functional import calibration
from measurements.functional.likelihood import brier_scores
from measurements.measurement import MeanMeasurement, RecordMeasurement
from recording.records import Records


class NegativeLogLikelihood(MeanMeasurement):
    """Mean of -log p(label), in nats; ln C for a uniform prediction."""

    kind = "property"
    unit, better, version = "nats", "lower", 1

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """-log p(label), [n]."""
        return {"nll": -records.log_p_label}


class BrierScore(MeanMeasurement):
    """Squared error of the probabilities, summed over the classes, in [0, 2].

    Reference:
        Brier, Verification of forecasts expressed in terms of probability (1950).
    """

    kind = "property"
    unit, better, version = "", "lower", 1

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """1 - 2 p(label) + sum of p^2, [n]."""
        return {"brier": brier_scores(records.log_p_label, records.sum_p2)}


class ConfidenceGap(MeanMeasurement):
    """Mean confidence minus accuracy: positive for an overconfident model."""

    kind = "property"
    unit, better, version = "fraction", "", 1

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Confidence minus hit, [n]."""
        return {"confidence_gap": records.confidence.double() - records.correct.double()}


class CalibrationError(RecordMeasurement):
    """Expected and maximal gap between confidence and accuracy over 15 equal-width bins.

    Both are biased upward in a finite sample, so much that a percentile interval misses the true
    value of a calibrated model every time: they are shown without interval and verdict.
    `DebiasedCalibrationError` is the one to judge by.

    Reference:
        Guo et al., On calibration of modern neural networks (2017), equations 3 and 5.
    """

    kind = "property"
    unit, better, version = "fraction", "lower", 1
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """ECE and MCE of the predicted class."""
        confidence, correct = records.confidence, records.correct
        return {
            "ece": calibration.calibration_error(confidence, correct),
            "mce": calibration.maximum_calibration_error(confidence, correct),
        }


class DebiasedCalibrationError(RecordMeasurement):
    """Squared calibration error with the binning bias subtracted; may be slightly negative.

    Reference:
        Kumar et al., Verified uncertainty calibration (2019), the debiased L2 estimator.
    """

    kind = "property"
    unit, better, version = "", "lower", 1

    def statistic(self, records: Records) -> dict[str, float]:
        """Sum over bins of n_b/n [(acc - conf)^2 - acc (1 - acc) / (n_b - 1)]."""
        error = calibration.debiased_calibration_error(records.confidence, records.correct)
        return {"calibration_error_debiased": error}
