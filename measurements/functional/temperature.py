"""Temperature scaling: how good the probabilities are once their sharpness is set right."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_logits_and_labels
from measurements.functional.folds import second_half
from measurements.functional.rows import finite_logits, log_probabilities, row_blocks

LOWEST, HIGHEST = 0.05, 20.0
"""Temperatures that are tried; a sample without errors would ask for 0."""

STEPS = 60
PRECISE = 1e-10
"""Relative width at which the search for 1/T ends."""


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Each half of the samples, scaled by the temperature that was fitted on the other half."""

    log_p_label: Tensor  # [N] float64, nats
    confidence: Tensor  # [N] float64, probability of the class predicted
    temperatures: tuple[float, float]  # of the first and of the second half's samples

    @property
    def temperature(self) -> float:
        """Geometric mean of the two; above 1 for an overconfident model."""
        return math.sqrt(self.temperatures[0] * self.temperatures[1])


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Temperature T for which softmax(z / T) has the least negative log-likelihood.

    The likelihood is convex in 1/T, so its slope is searched for a zero by Newton steps, kept
    inside the interval that is known to hold it.

    Args:
        logits: Stored logits, shape [N, C]; a row of NaN says nothing about T.
        labels: True classes, int64, shape [N].

    Returns:
        In [0.05, 20]; an end where the best lies beyond it.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]] * 4)
        >>> labels = torch.tensor([0, 0, 0, 1])  # p = 3/4 asks for a gap of ln 3 in place of 2
        >>> round(fit_temperature(logits, labels), 4)  # 2 / 1.0986
        1.8205

    Reference:
        Guo et al., On calibration of modern neural networks (2017), section 4.2.
    """
    require_logits_and_labels(logits, labels)
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slope(logits, labels, low)[0] >= 0:
        return HIGHEST
    if _slope(logits, labels, high)[0] <= 0:
        return LOWEST
    sharpness = 1.0
    for _ in range(STEPS):
        slope, curvature = _slope(logits, labels, sharpness)
        low, high = (sharpness, high) if slope < 0 else (low, sharpness)
        newton = sharpness - slope / curvature if curvature > 0 else low
        following = newton if low < newton < high else math.sqrt(low * high)
        if abs(following - sharpness) <= PRECISE * sharpness:
            break
        sharpness = following
    return 1 / following


def cross_fitted(logits: Tensor, labels: Tensor, sample_ids: Tensor) -> Scaled:
    """Fit a temperature on each half of the samples and scale the other half by it.

    Halves follow a hash of the sample's id, so two models are split alike. Decisions do not change.

    Args:
        logits: Stored logits, shape [N, C]; a row of NaN stays a uniform prediction.
        labels: True classes, int64, shape [N].
        sample_ids: Positions in the split, int64, shape [N].

    Raises:
        NotApplicable: A half has no sample.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]]).repeat(400, 1)
        >>> labels = torch.tensor([0, 0, 0, 1]).repeat(100)
        >>> found = cross_fitted(logits, labels, torch.arange(400))
        >>> 1.5 < found.temperature < 2.2
        True

    Reference:
        Guo et al., On calibration of modern neural networks (2017), section 4.2; their validation
        set is here the other half of the test set.
    """
    require_logits_and_labels(logits, labels)
    is_second = second_half(sample_ids)
    if is_second.all() or not is_second.any():
        raise NotApplicable(
            f"temperature scaling needs samples in both halves, got {len(labels)} samples in one"
        )
    of_second = fit_temperature(logits[~is_second], labels[~is_second])
    of_first = fit_temperature(logits[is_second], labels[is_second])
    temperature = torch.where(is_second, of_second, of_first).double()
    parts = [
        _scaled_rows(logits[rows], labels[rows], temperature[rows])
        for rows in row_blocks(*logits.shape)
    ]
    log_p, confidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return Scaled(log_p_label=log_p, confidence=confidence, temperatures=(of_first, of_second))


def _scaled_rows(logits: Tensor, labels: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    log_p = log_probabilities(finite_logits(logits) / temperature[:, None])
    return log_p.gather(1, labels[:, None]).squeeze(1), log_p.amax(dim=1).exp()


def _slope(logits: Tensor, labels: Tensor, sharpness: float) -> tuple[float, float]:
    """First and second derivative by 1/T of the summed negative log-likelihood, at 1/T."""
    slope = curvature = 0.0
    for rows in row_blocks(*logits.shape):
        z = finite_logits(logits[rows])
        p = (z * sharpness).softmax(dim=1)
        mean = torch.linalg.vecdot(p, z)
        slope += (mean - z.gather(1, labels[rows, None]).squeeze(1)).sum().item()
        curvature += torch.linalg.vecdot(p, (z - mean[:, None]).square()).sum().item()
    return slope, curvature
