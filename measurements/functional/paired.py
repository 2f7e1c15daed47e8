"""What changed between a baseline and a model, sample by sample, from the decisions of both.

Wherever two models meet, the first argument is the model (the compressed one) and the keyword
`baseline` is what it is compared with.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.accuracy import per_class_recall
from measurements.functional.checks import require_columns


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Exact test of whether two models are equally accurate."""

    broken: int  # samples that only the baseline has right
    mended: int  # samples that only the model has right
    p_value: float  # two-sided, in [0, 1]; 1 where no sample is discordant


@dataclass(frozen=True, kw_only=True)
class WorstDelta:
    """The class that lost most."""

    label: int
    delta: float  # recall of the model minus that of the baseline, in [-1, 1]
    count: int  # samples of the class


def mcnemar(correct: Tensor, *, baseline: Tensor) -> McNemar:
    """Test whether as many samples were broken as were mended.

    Exact at every size: the discordant samples are tosses of a fair coin, and the p-value is twice
    the smaller tail, at most 1.

    Args:
        correct: Whether the model is right, bool, shape [N].
        baseline: Whether the baseline is right, bool, shape [N], same samples.

    Returns:
        Counts and p-value. A large p-value is no proof that the models are equal.

    Example:
        >>> right, wrong = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
        >>> mcnemar(wrong, baseline=right)  # 2 / 2^5
        McNemar(broken=5, mended=0, p_value=0.0625)

    Reference:
        McNemar, Note on the sampling error of the difference between correlated proportions (1947),
        in the exact form.
    """
    require_columns(correct=correct, baseline=baseline)
    broken, mended = int((baseline & ~correct).sum()), int((correct & ~baseline).sum())
    return McNemar(broken=broken, mended=mended, p_value=_sign_test(broken, mended))


def churn(predicted: Tensor, *, baseline: Tensor) -> float:
    """Share of samples with another prediction than the baseline's, right or wrong.

    Args:
        predicted: Classes predicted by the model, int64, shape [N]; -1 for a broken row.
        baseline: Classes predicted by the baseline, int64, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better; at least |change of accuracy|.

    Example:
        >>> churn(torch.tensor([0, 1, 2, 2]), baseline=torch.tensor([0, 1, 1, 0]))
        0.5

    Reference:
        Milani Fard et al., Launch and iterate: reducing prediction churn (2016).
    """
    require_columns(predicted=predicted, baseline=baseline)
    return _share(predicted != baseline)


def agreement(predicted: Tensor, *, baseline: Tensor) -> float:
    """Share of samples with the baseline's prediction: 1 - churn; higher is better.

    Example:
        >>> agreement(torch.tensor([0, 1, 2, 2]), baseline=torch.tensor([0, 1, 1, 2]))
        0.75
    """
    require_columns(predicted=predicted, baseline=baseline)
    return _share(predicted == baseline)


def negative_flip_rate(correct: Tensor, *, baseline: Tensor) -> float:
    """Share of samples that the baseline has right and the model has wrong.

    Args:
        correct: Whether the model is right, bool, shape [N].
        baseline: Whether the baseline is right, bool, shape [N].

    Returns:
        Fraction of all samples in [0, 1]; lower is better. Minus the positive flip rate it is the
        accuracy that was lost.

    Example:
        >>> right = torch.tensor([True, True, False, False])
        >>> negative_flip_rate(torch.tensor([True, False, True, False]), baseline=right)
        0.25

    Reference:
        Yan et al., Positive-congruent training (2021), equation 1.
    """
    require_columns(correct=correct, baseline=baseline)
    return _share(baseline & ~correct)


def positive_flip_rate(correct: Tensor, *, baseline: Tensor) -> float:
    """Share of samples that the baseline has wrong and the model has right.

    Example:
        >>> wrong = torch.tensor([False, False, True])
        >>> round(positive_flip_rate(torch.tensor([True, True, True]), baseline=wrong), 4)
        0.6667
    """
    require_columns(correct=correct, baseline=baseline)
    return _share(correct & ~baseline)


def nfr_relative(correct: Tensor, *, baseline: Tensor) -> float:
    """Relevant churn: share of the samples the baseline has right that the model has wrong.

    Args:
        correct: Whether the model is right, bool, shape [N].
        baseline: Whether the baseline is right, bool, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better.

    Raises:
        NotApplicable: The baseline has no sample right.

    Example:
        >>> right = torch.tensor([True, True, False, False])
        >>> nfr_relative(torch.tensor([True, False, True, False]), baseline=right)
        0.5

    Reference:
        Yan et al., Positive-congruent training (2021).
    """
    require_columns(correct=correct, baseline=baseline)
    if not baseline.any():
        raise NotApplicable("the baseline has no sample right, so none of them can be broken")
    return int((baseline & ~correct).sum()) / int(baseline.sum())


def unnecessary_churn(predicted: Tensor, labels: Tensor, *, baseline: Tensor) -> float:
    """Churn beyond what the change of accuracy demands: churn - |accuracy - accuracy before|.

    Args:
        predicted: Classes predicted by the model, int64, shape [N]; -1 for a broken row.
        labels: True classes, int64, shape [N].
        baseline: Classes predicted by the baseline, int64, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better.

    Example:
        >>> labels, before = torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 1, 1])
        >>> unnecessary_churn(torch.tensor([0, 1, 2, 0]), labels, baseline=before)
        0.75

    Reference:
        Milani Fard et al., Launch and iterate: reducing prediction churn (2016).
    """
    require_columns(predicted=predicted, labels=labels, baseline=baseline)
    changed = int((predicted != baseline).sum())
    demanded = abs(int((predicted == labels).sum()) - int((baseline == labels).sum()))
    return (changed - demanded) / len(labels)


def worst_class_delta(
    predicted: Tensor, labels: Tensor, *, baseline: Tensor, min_count: int = 1
) -> WorstDelta:
    """The class whose recall fell most, or rose least, from baseline to model.

    Not the change of the lowest recall: that one may belong to two different classes. The lowest of
    several noisy differences lies below the truth, the more so the smaller the classes.

    Args:
        predicted: Classes predicted by the model, int64, shape [N]; -1 for a broken row.
        labels: True classes, int64, shape [N].
        baseline: Classes predicted by the baseline, int64, shape [N].
        min_count: Smaller classes are passed over.

    Returns:
        The class; of equals, the lowest.

    Example:
        >>> labels, before = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0])
        >>> worst_class_delta(torch.tensor([0, 1, 1, 1]), labels, baseline=before)
        WorstDelta(label=0, delta=-0.5, count=2)

    Reference:
        Hooker et al., Characterising bias in compressed models (2020): harm by class.
    """
    require_columns(predicted=predicted, labels=labels, baseline=baseline)
    counts = torch.bincount(labels).tolist()
    now, before = per_class_recall(predicted, labels), per_class_recall(baseline, labels)
    deltas = {label: now[label] - before[label] for label in now if counts[label] >= min_count}
    if not deltas:
        raise ValueError(f"no class has {min_count} samples; the largest has {max(counts)}")
    worst = min(deltas, key=lambda label: deltas[label])
    return WorstDelta(label=worst, delta=deltas[worst], count=counts[worst])


def _sign_test(first: int, second: int) -> float:
    """Two-sided p-value of `first` heads and `second` tails of a fair coin, in whole numbers."""
    tosses = first + second
    ways, tail = 1, 0
    for heads in range(min(first, second) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)
    return min(1.0, 2 * tail / 2**tosses)


def _share(chosen: Tensor) -> float:
    return int(chosen.sum()) / len(chosen)
