"""Compression-identified exemplars: samples on which two populations of models part ways."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from measurements.functional.multiplicity import holm

FEWEST_SEEDS = 5
"""Models a population needs before its modal label means more than one model's."""


@dataclass(frozen=True, kw_only=True)
class Modal:
    """The label most of a population's models give to each sample."""

    labels: Tensor  # [N] int64; of equally frequent ones, the lowest class
    ties: int  # samples with several most frequent labels


@dataclass(frozen=True, kw_only=True)
class Exemplars:
    """Samples whose modal label differs between two populations."""

    chosen: Tensor  # [N] bool
    ties: int  # samples that tie in either population: their modal label is a convention
    is_churn: bool  # a population is too small: this is churn, not a set of exemplars

    @property
    def share(self) -> float:
        """Fraction of the samples, in [0, 1]."""
        return int(self.chosen.sum()) / len(self.chosen)


@dataclass(frozen=True, kw_only=True)
class ClassTest:
    """Whether compression moved the recall of a class more than accuracy as a whole."""

    label: int
    shift: float  # mean of (recall - accuracy) over the models, minus that of the baselines
    p_value: float  # Welch, two-sided
    adjusted: float  # Holm, over the classes


def modal_labels(predicted: Tensor) -> Modal:
    """Most frequent prediction of each sample.

    Args:
        predicted: Predictions of K models, int64, shape [K, N]; -1 for a broken row, which is an
            answer like any other.

    Example:
        >>> modal_labels(torch.tensor([[2, 1], [2, 0], [1, 3]]))
        Modal(labels=tensor([2, 0]), ties=1)

    Reference:
        Hooker et al., What do compressed deep neural networks forget? (2019), section 2.
    """
    if predicted.ndim != 2 or 0 in predicted.shape:
        raise ValueError(
            f"expected predictions [K, N] of a population, got {list(predicted.shape)}"
        )
    counts = torch.stack([(predicted == one).sum(dim=0) for one in predicted])  # [K, N]
    most = counts.amax(dim=0)
    candidate = predicted.masked_fill(counts < most, torch.iinfo(predicted.dtype).max)
    labels = candidate.amin(dim=0)
    others = (counts == most) & (predicted != labels)
    return Modal(labels=labels, ties=int(others.any(dim=0).sum()))


def exemplars(predicted: Tensor, *, baseline: Tensor) -> Exemplars:
    """Samples on which the modal labels of two populations differ.

    With one model each this is churn; with fewer than five in either, it is still called so.

    Args:
        predicted: Predictions of the compressed models, int64, shape [K, N].
        baseline: Predictions of the baselines, int64, shape [L, N], same samples.

    Example:
        >>> found = exemplars(torch.tensor([[0, 1]] * 5), baseline=torch.tensor([[0, 2]] * 5))
        >>> found.chosen.tolist(), found.share, found.is_churn
        ([False, True], 0.5, False)

    Reference:
        Hooker et al., What do compressed deep neural networks forget? (2019), equation 1.
    """
    if predicted.shape[1:] != baseline.shape[1:]:
        raise ValueError(
            "expected predictions [K, N] and [L, N] of the same samples, "
            f"got {list(predicted.shape)} and {list(baseline.shape)}"
        )
    now, before = modal_labels(predicted), modal_labels(baseline)
    return Exemplars(
        chosen=now.labels != before.labels,
        ties=now.ties + before.ties,
        is_churn=min(len(predicted), len(baseline)) < FEWEST_SEEDS,
    )


def class_tests(predicted: Tensor, labels: Tensor, *, baseline: Tensor) -> list[ClassTest]:
    """Test class by class whether its recall moved differently from accuracy as a whole.

    For every model the recall of the class minus the model's accuracy is taken; the values of the
    two populations are compared by Welch's t, and the p-values adjusted by Holm.

    Args:
        predicted: Predictions of the compressed models, int64, shape [K, N], K >= 2.
        labels: True classes, int64, shape [N].
        baseline: Predictions of the baselines, int64, shape [L, N], L >= 2.

    Returns:
        One a class that occurs, ascending.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> before = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])
        >>> after = torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]])  # class 0 loses half of its hits
        >>> [(test.label, test.shift, test.p_value) for test in class_tests(
        ...     after, labels, baseline=before)]
        [(0, -0.25, 0.0), (1, 0.25, 0.0)]

    Reference:
        Hooker et al., What do compressed deep neural networks forget? (2019), section 3.1.
    """
    if min(len(predicted), len(baseline)) < 2:
        raise ValueError(
            "a t-test needs two models in each population, "
            f"got {len(predicted)} and {len(baseline)}"
        )
    present, now = _recall_beyond_accuracy(predicted, labels)
    _, before = _recall_beyond_accuracy(baseline, labels)
    p_values = [welch_p_value(x, y) for x, y in zip(now.T, before.T, strict=True)]
    shifts = (now.mean(dim=0) - before.mean(dim=0)).tolist()
    return [
        ClassTest(label=label, shift=shift, p_value=p, adjusted=adjusted)
        for label, shift, p, adjusted in zip(present, shifts, p_values, holm(p_values), strict=True)
    ]


def welch_p_value(first: Tensor, second: Tensor) -> float:
    """Two-sided p-value of Welch's t-test of equal means.

    Args:
        first: Independent values, shape [K], K >= 2.
        second: Independent values, shape [L], L >= 2.

    Returns:
        In [0, 1]; where neither sample varies, 1 for equal and 0 for different values.

    Example:
        >>> round(welch_p_value(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 4.0, 5.0])), 4)
        0.0705

    Reference:
        Welch, The generalization of "Student's" problem (1947).
    """
    from scipy import special  # here: it takes a moment to import

    first, second = first.double(), second.double()
    noise = [x.var().item() / len(x) for x in (first, second)]
    apart = (first.mean() - second.mean()).item()
    if sum(noise) == 0:
        return 1.0 if apart == 0 else 0.0
    t = apart / math.sqrt(sum(noise))
    freedom = sum(noise) ** 2 / sum(
        v**2 / (len(x) - 1) for v, x in zip(noise, (first, second), strict=True)
    )
    return float(2 * special.stdtr(freedom, -abs(t)))


def _recall_beyond_accuracy(predicted: Tensor, labels: Tensor) -> tuple[list[int], Tensor]:
    """Classes that occur, and each model's recall of them minus its accuracy, [K, classes]."""
    if predicted.ndim != 2 or predicted.shape[1:] != labels.shape or len(labels) == 0:
        raise ValueError(
            "expected predictions [K, N] and labels [N], "
            f"got {list(predicted.shape)} and {list(labels.shape)}"
        )
    hits = (predicted == labels).double()
    sizes = torch.bincount(labels)
    sums = torch.zeros(len(hits), len(sizes), dtype=torch.float64).index_add_(1, labels, hits)
    present = sizes.nonzero().squeeze(1)
    recall = sums[:, present] / sizes[present]
    return present.tolist(), recall - hits.mean(dim=1, keepdim=True)
