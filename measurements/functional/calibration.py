"""Calibration: does a confidence of 0.8 mean that 80 % are right?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from measurements.functional.checks import require_columns, require_logits_and_labels

BINS = 15
ROUNDING = 1e-6
"""How far a probability summed in float32 may exceed 1."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """The bins of a reliability diagram that hold a sample, in ascending order."""

    low: Tensor  # [K] float64, excluded end of the bin
    high: Tensor  # [K] float64, included end of the bin
    counts: Tensor  # [K] int64, at least 1
    confidence: Tensor  # [K] float64, mean confidence of the bin's samples
    accuracy: Tensor  # [K] float64, share of the bin's samples that are right

    @property
    def gaps(self) -> Tensor:
        """Accuracy minus confidence, float64 [K]; negative where overconfident."""
        return self.accuracy - self.confidence

    @property
    def shares(self) -> Tensor:
        """Part of all samples that lies in the bin, float64 [K]; sums to 1."""
        return self.counts.double() / self.counts.sum()


def calibration_bins(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> CalibrationBins:
    """Sort samples into `bins` bins of equal width by confidence.

    A bin is (low, high], found in float64, so a confidence of exactly 1 belongs to the last bin and
    0.5 of ten bins to (0.4, 0.5]. A confidence of 0 belongs to the first.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
        bins: Number of bins B on [0, 1].

    Returns:
        Only bins that hold a sample; an empty bin has no accuracy.

    Example:
        >>> found = calibration_bins(torch.tensor([0.5, 1.0]), torch.tensor([True, True]), bins=10)
        >>> found.high.tolist(), found.gaps.tolist()
        ([0.5, 1.0], [0.5, 0.0])
    """
    require_columns(confidence=confidence, correct=correct)
    if bins < 1:
        raise ValueError(f"bins is a number of bins, at least 1, got {bins}")
    confidence = confidence.double()
    low, high = confidence.aminmax()
    if not (low >= 0 and high <= 1 + ROUNDING):  # also refuses NaN
        raise ValueError(f"expected confidences in [0, 1], got {low:.6g} to {high:.6g}")
    bin_of = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    counts = torch.bincount(bin_of, minlength=bins)
    used = counts.nonzero().squeeze(1)
    counts = counts[used]
    return CalibrationBins(
        low=used.double() / bins,
        high=(used + 1).double() / bins,
        counts=counts,
        confidence=torch.bincount(bin_of, confidence, minlength=bins)[used] / counts,
        accuracy=torch.bincount(bin_of, correct.double(), minlength=bins)[used] / counts,
    )


def calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, by bin size.

    Biased upward: noise within bins counts as gap, so a perfectly calibrated model of a finite
    sample has more than 0. Judge by `debiased_calibration_error`.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
        bins: Number of equal-width bins.

    Returns:
        Fraction in [0, 1]; 0.03 means 3 percentage points; lower is better.

    Example:
        >>> calibration_error(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
        0.25

    Reference:
        Guo et al., On calibration of modern neural networks (2017), equation 3.
    """
    found = calibration_bins(confidence, correct, bins=bins)
    return (found.shares * found.gaps.abs()).sum().item()


def maximum_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Largest gap between confidence and accuracy of any bin that holds a sample.

    One stray sample can decide it: read it beside the bin's count.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
        bins: Number of equal-width bins.

    Returns:
        Fraction in [0, 1]; lower is better.

    Example:
        >>> maximum_calibration_error(torch.tensor([0.75, 1.0]), torch.tensor([True, True]))
        0.25

    Reference:
        Guo et al., On calibration of modern neural networks (2017), equation 5.
    """
    return calibration_bins(confidence, correct, bins=bins).gaps.abs().max().item()


def debiased_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Squared calibration error without the bias that noise within bins adds.

    Sum over bins of n_b/n [(acc - conf)^2 - acc (1 - acc) / (n_b - 1)]. Bins of one sample have no
    estimate of their noise and are left out; n stays the number of all samples.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
        bins: Number of equal-width bins.

    Returns:
        Squared fraction, at most 1; 0 on average, hence sometimes negative, for a calibrated model;
        lower is better.

    Example:
        >>> confidence, correct = torch.full((4,), 0.75), torch.tensor([True, True, True, False])
        >>> debiased_calibration_error(confidence, correct)  # 0 - (3/4)(1/4)/3
        -0.0625

    Reference:
        Kumar et al., Verified uncertainty calibration (2019), the debiased estimator, for the
        predicted class and bins of equal width.
    """
    found = calibration_bins(confidence, correct, bins=bins)
    noise = found.accuracy * (1 - found.accuracy) / (found.counts - 1).clamp(min=1)
    terms = found.shares * (found.gaps.square() - noise)
    return terms[found.counts >= 2].sum().item()


def confidence_gap(confidence: Tensor, correct: Tensor) -> float:
    """Mean confidence minus accuracy.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        Fraction in [-1, 1]; positive for an overconfident model, neither direction is better.

    Example:
        >>> confidence_gap(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
        0.25
    """
    require_columns(confidence=confidence, correct=correct)
    return (confidence.double() - correct.double()).mean().item()


def expected_calibration_error(probs: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy, weighted by bin size, from probabilities.

    Args:
        probs: Class probabilities, shape [N, C]; rows sum to 1.
        labels: True classes, int64, shape [N].
        bins: Number of equal-width confidence bins on (0, 1].

    Returns:
        Fraction in [0, 1]; 0.03 means 3 percentage points; lower is better.

    Example:
        >>> probs = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
        >>> expected_calibration_error(probs, torch.tensor([0, 1]), bins=1)
        0.25

    Reference:
        Guo et al., On calibration of modern neural networks (2017), equation 3.
    """
    require_logits_and_labels(probs, labels)
    confidence, predicted = probs.max(dim=1)
    return calibration_error(confidence, predicted == labels, bins=bins)
