"""Relatives of the calibration error: equal-mass bins, all classes, no bins at all."""

import math
from functools import cache

import torch
from torch import Tensor

from measurements.functional.calibration import BINS
from measurements.functional.checks import require_columns, require_logits_and_labels
from measurements.functional.rows import log_probabilities, row_blocks

CELLS = 1024
"""Places on [0, 1] where the smooth error is looked at: a confidence moves by at most 0.0005."""

HALVINGS = 40


def adaptive_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over bins that hold equally many samples.

    Samples are sorted by confidence and cut into `bins` parts; samples of equal confidence stay
    together, in the part of the first of them, so the order of the samples does not matter.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
        bins: Number of parts, at least 1.

    Returns:
        Fraction in [0, 1]; lower is better; biased upward as every binned error is.

    Example:
        >>> confidence = torch.tensor([0.5, 0.75, 0.75, 1.0])
        >>> correct = torch.tensor([False, True, True, True])
        >>> adaptive_calibration_error(confidence, correct, bins=4)  # (.5 + .25 + .25 + 0) / 4
        0.25

    Reference:
        Nixon et al., Measuring calibration in deep learning (2019), adaptive calibration error, of
        the predicted class instead of all classes.
    """
    require_columns(confidence=confidence, correct=correct)
    if bins < 1:
        raise ValueError(f"bins is a number of bins, at least 1, got {bins}")
    ordered, order = confidence.double().sort()
    surplus = correct.double()[order] - ordered
    _, group, sizes = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    first = (sizes.cumsum(0) - sizes)[group]
    bin_of = first * bins // len(ordered)
    return torch.bincount(bin_of, surplus).abs().sum().item() / len(ordered)


def classwise_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> float:
    """Calibration error of the probability of every class, as the mean over classes.

    For each class, whether the label is that class is compared with its probability, over all
    samples, in equal-width bins (low, high].

    Args:
        logits: Stored logits, shape [N, C].
        labels: True classes, int64, shape [N].
        bins: Number of equal-width bins.

    Returns:
        Fraction in [0, 1]; lower is better. Small for many classes, where most probabilities are
        near 0: compare it among models of one dataset only.

    Example:
        >>> classwise_calibration_error(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]))
        0.25

    Reference:
        Kull et al., Beyond temperature scaling (2019), equation 3.
    """
    require_logits_and_labels(logits, labels)
    n, classes = logits.shape
    surplus = torch.zeros(classes * bins, dtype=torch.float64)
    for rows in row_blocks(n, classes):
        probs = log_probabilities(logits[rows]).exp()
        bin_of = ((probs * bins).ceil().long() - 1).clamp(0, bins - 1)
        cell = bin_of + torch.arange(classes) * bins
        hits = torch.zeros_like(probs).scatter_(1, labels[rows, None], 1.0)
        surplus += torch.bincount(cell.flatten(), (hits - probs).flatten(), minlength=len(surplus))
    return surplus.abs().sum().item() / n / classes


def smooth_calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Calibration error without bins: residuals smoothed over a width equal to the error itself.

    The residuals (hit - confidence) are smoothed along the confidence by a Gaussian that is
    reflected at 0 and 1, and their absolute value is integrated. A wider kernel gives less; the
    result is the one width that equals its integral. It has no jumps as a bin edge has.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better. Confidences are rounded to 1024 places.

    Example:
        >>> confidence = torch.full((4,), 0.75)
        >>> correct = torch.tensor([True, True, False, False])
        >>> round(smooth_calibration_error(confidence, correct), 6)
        0.25

    Reference:
        Blasiok & Nakkiran, Smooth ECE: principled reliability diagrams via kernel smoothing
        (2023), definition 3.
    """
    require_columns(confidence=confidence, correct=correct)
    confidence = confidence.double()
    place = (confidence * CELLS).long().clamp(0, CELLS - 1)
    residual = torch.bincount(place, correct.double() - confidence, minlength=CELLS)
    spectrum = _cosines() @ residual / len(confidence)
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        width = (low + high) / 2
        if _smoothed_mass(spectrum, width) > width:
            low = width
        else:
            high = width
    return high if low else 0.0


def _smoothed_mass(spectrum: Tensor, width: float) -> float:
    """Integral of the absolute value after smoothing: reflection makes cosines eigenfunctions."""
    frequency = torch.arange(CELLS, dtype=torch.float64) * math.pi
    damped = spectrum * torch.exp(-((frequency * width) ** 2) / 2)
    return (_cosines().T @ damped).abs().sum().item()


@cache
def _cosines() -> Tensor:
    """Orthonormal cosines at the middle of each cell, [frequency, cell]; 8 MB."""
    cells = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    waves = torch.cos(torch.arange(CELLS, dtype=torch.float64)[:, None] * math.pi * cells)
    return waves * torch.where(torch.arange(CELLS) == 0, 1.0, math.sqrt(2.0))[:, None].div(
        math.sqrt(CELLS)
    )
