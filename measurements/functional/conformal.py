"""Split conformal prediction: sets of classes that hold the label with a chosen probability."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns, require_logits_and_labels
from measurements.functional.folds import hashed_uniforms, second_half
from measurements.functional.rows import log_probabilities, row_blocks

Method = Literal["lac", "aps"]

APS_SALT = 2
"""Decides for ever the random number of a sample."""

SLACK = 1e-9
"""(n + 1)(1 - a) is a product of floats: 18.000000000000004 means 18."""


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Prediction sets of the second half of the samples, calibrated on the first."""

    covered: Tensor  # [M] bool: the set holds the label
    sizes: Tensor  # [M] int64: classes in the set, 0 to C
    threshold: float  # classes with at most this score are in the set
    calibration_size: int


def conformal_threshold(scores: Tensor, *, miss: float) -> float:
    """The k-th smallest score, k = ceil((n + 1)(1 - miss)); infinite where k exceeds n.

    Args:
        scores: How badly the label fits, of n calibration samples, shape [n].
        miss: Allowed share of sets without the label, in (0, 1).

    Returns:
        A new sample's score is at most this with a chance of at least 1 - miss, and for scores
        without ties of at most 1 - miss + 1/(n + 1).

    Example:
        >>> conformal_threshold(torch.arange(1.0, 20.0), miss=0.1)  # 18th of 19
        18.0
        >>> conformal_threshold(torch.arange(1.0, 9.0), miss=0.1)  # the 9th of 8
        inf

    Reference:
        Angelopoulos & Bates, A gentle introduction to conformal prediction (2021), section 1.
    """
    require_columns(scores=scores)
    if not 0 < miss < 1:
        raise ValueError(f"miss is the allowed share of misses, in (0, 1), got {miss}")
    k = math.ceil((len(scores) + 1) * (1 - miss) - SLACK)
    return scores.double().kthvalue(k).values.item() if k <= len(scores) else math.inf


def lac_scores(logits: Tensor) -> Tensor:
    """1 - p of every class: the smallest sets on average, unevenly covering hard samples.

    Args:
        logits: Stored logits, shape [N, C].

    Returns:
        Float64 [N, C] in [0, 1].

    Example:
        >>> lac_scores(torch.zeros(1, 2)).tolist()
        [[0.5, 0.5]]

    Reference:
        Sadinle, Lei & Wasserman, Least ambiguous set-valued classifiers (2019).
    """
    return -torch.expm1(log_probabilities(logits))


def aps_scores(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Probability of all classes above a class plus a random part of its own.

    Classes of equal probability are ordered by index.

    Args:
        logits: Stored logits, shape [N, C].
        uniforms: Part of the class's own probability, a number a sample, shape [N], in [0, 1).

    Returns:
        Float64 [N, C] in [0, 1].

    Example:
        >>> aps_scores(torch.zeros(1, 2), torch.tensor([0.5])).tolist()
        [[0.25, 0.75]]

    Reference:
        Romano, Sesia & Candes, Classification with valid and adaptive coverage (2020), equation 5.
    """
    probs = log_probabilities(logits).exp()
    ordered, order = probs.sort(dim=1, descending=True, stable=True)
    above = ordered.cumsum(dim=1) - ordered
    scores = above + uniforms.double()[:, None] * ordered
    return torch.empty_like(scores).scatter_(1, order, scores)


def split_conformal(
    logits: Tensor, labels: Tensor, sample_ids: Tensor, *, method: Method, miss: float = 0.1
) -> Conformal:
    """Calibrate on one half of the samples and give the other half its prediction sets.

    Halves, and the random numbers of `aps`, follow hashes of the sample's id: two models are split
    alike. Given the calibration half of n samples, coverage is Beta(k, n + 1 - k) distributed.

    Args:
        logits: Stored logits, shape [N, C]; a row of NaN is a uniform prediction.
        labels: True classes, int64, shape [N].
        sample_ids: Positions in the split, int64, shape [N].
        method: `lac` or `aps`.
        miss: Allowed share of sets without the label, in (0, 1).

    Raises:
        NotApplicable: A half has no sample.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]]).repeat(100, 1)
        >>> labels = torch.zeros(100, dtype=torch.int64)
        >>> found = split_conformal(logits, labels, torch.arange(100), method="lac")
        >>> found.covered.all().item(), found.sizes.unique().tolist()
        (True, [1])

    Reference:
        Angelopoulos & Bates, A gentle introduction to conformal prediction (2021).
    """
    require_logits_and_labels(logits, labels)
    tests = second_half(sample_ids)
    if tests.all() or not tests.any():
        raise NotApplicable(
            f"conformal prediction needs samples in both halves, got {len(labels)} in one"
        )
    of_label, thresholded = torch.empty(len(labels), dtype=torch.float64), []
    for rows in row_blocks(*logits.shape):
        scores = _scores(logits[rows], sample_ids[rows], method)
        of_label[rows] = scores.gather(1, labels[rows, None]).squeeze(1)
    threshold = conformal_threshold(of_label[~tests], miss=miss)
    for rows in row_blocks(*logits.shape):
        scores = _scores(logits[rows], sample_ids[rows], method)
        thresholded.append((scores <= threshold).sum(dim=1))
    return Conformal(
        covered=of_label[tests] <= threshold,
        sizes=torch.cat(thresholded)[tests],
        threshold=threshold,
        calibration_size=int((~tests).sum()),
    )


def _scores(logits: Tensor, sample_ids: Tensor, method: Method) -> Tensor:
    if method == "lac":
        return lac_scores(logits)
    if method == "aps":
        return aps_scores(logits, hashed_uniforms(sample_ids, salt=APS_SALT))
    raise ValueError(f"method is lac or aps, got {method!r}")
