"""Selective prediction: what is the risk when the least certain samples are refused?"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from measurements.functional.checks import require_columns

SLACK = 1e-9
"""Counts of errors are sums of fractions where scores tie, so whole numbers are met within this."""


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """The risk-coverage curve, from one sorting of the samples.

    Coverage k/N means that the k samples of highest score are answered.
    """

    errors: Tensor  # [N] float64: expected errors among the k best, k = 1..N; ascending

    @property
    def risks(self) -> Tensor:
        """Share of errors among the samples answered, float64 [N], for k = 1..N."""
        return self.errors / _up_to(len(self.errors))

    @property
    def risk(self) -> float:
        """Share of errors at full coverage."""
        return self.errors[-1].item() / len(self.errors)

    @property
    def aurc(self) -> float:
        """Mean of the risks over all coverages; lower is better."""
        return self.risks.mean().item()

    @property
    def eaurc(self) -> float:
        """AURC minus that of the same errors in the best order; at least 0, lower is better."""
        n = len(self.errors)
        counts = _up_to(n)
        best = (counts - (n - self.errors[-1])).clamp(min=0.0) / counts
        return max(0.0, self.aurc - best.mean().item())

    @property
    def augrc(self) -> float:
        """Area under errors/N over coverage, by trapezoids from 0; lower is better."""
        n = len(self.errors)
        return (self.errors.sum() - self.errors[-1] / 2).item() / n**2

    def risk_at(self, coverage: float) -> float:
        """Share of errors when at least `coverage`, in (0, 1], of the samples are answered."""
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage is a share of the samples, in (0, 1], got {coverage}")
        answered = max(1, math.ceil(coverage * len(self.errors) - SLACK))
        return self.errors[answered - 1].item() / answered

    def coverage_at(self, risk: float) -> float:
        """Largest share of samples answered with a share of errors of at most `risk`; else 0."""
        if not 0 <= risk <= 1:
            raise ValueError(f"risk is a share of errors, in [0, 1], got {risk}")
        n = len(self.errors)
        fitting = (self.errors <= risk * _up_to(n) + SLACK).nonzero()
        return (int(fitting[-1]) + 1) / n if len(fitting) else 0.0


def risk_coverage(score: Tensor, correct: Tensor) -> RiskCoverage:
    """Order samples by `score` and count the errors among the k best, for every k.

    Samples of equal score have no order: what stands here is the mean over all their orders, which
    counts every one of them as the group's share of errors. So every number below is exact also
    for scores that tie, and does not depend on the order of the samples.

    Args:
        score: Larger = more certain, shape [N], best in float64; infinite is allowed, NaN is not.
            Rank by the margin logit: the softmax confidence is exactly 1 for many samples at once.
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        The curve; only the order of the scores matters.

    Example:
        >>> curve = risk_coverage(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
        >>> curve.errors.tolist(), curve.risk_at(1.0) == curve.risk == 1 / 3, curve.coverage_at(0.1)
        ([0.0, 1.0, 1.0], True, 0.3333333333333333)

    Reference:
        El-Yaniv & Wiener, On the foundations of noise-free selective classification (2010).
    """
    require_columns(score=score, correct=correct)
    score = score.detach().double().cpu()
    if score.isnan().any():
        raise ValueError("expected scores without NaN; rank by the margin logit, it has none")
    # numpy sorts doubles several times faster than torch does on a CPU
    order = torch.from_numpy(np.argsort(-score.numpy()))
    wrong = (~correct.bool()).double().cpu().index_select(0, order)
    _, group, sizes = score.index_select(0, order).unique_consecutive(
        return_inverse=True, return_counts=True
    )
    if len(sizes) < len(score):
        wrong = (torch.bincount(group, wrong) / sizes).index_select(0, group)
    return RiskCoverage(errors=wrong.cumsum(dim=0))


def aurc(score: Tensor, correct: Tensor) -> float:
    """Area under the risk-coverage curve: mean over k of the share of errors among the k best.

    Args:
        score: Larger = more certain, shape [N].
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better; the error rate itself for a score that knows nothing.

    Example:
        >>> aurc(torch.tensor([2.0, 1.0]), torch.tensor([True, False]))  # (0 + 1/2) / 2
        0.25

    Reference:
        Geifman et al., Bias-reduced uncertainty estimation (2019), AURC.
    """
    return risk_coverage(score, correct).aurc


def eaurc(score: Tensor, correct: Tensor) -> float:
    """AURC in excess of the best order of the same errors.

    The best order is that of the N samples at hand, not the limit r + (1 - r) ln(1 - r) of the
    paper, so a perfect order has exactly 0.

    Args:
        score: Larger = more certain, shape [N].
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        Fraction in [0, 1]; lower is better.

    Example:
        >>> eaurc(torch.tensor([2.0, 1.0]), torch.tensor([False, True]))  # (1 + 1/2)/2 - 1/4
        0.5

    Reference:
        Geifman et al., Bias-reduced uncertainty estimation (2019), E-AURC.
    """
    return risk_coverage(score, correct).eaurc


def augrc(score: Tensor, correct: Tensor) -> float:
    """Area under the generalized risk-coverage curve: errors answered as a share of all samples.

    Equal to (1 - AUROC) r (1 - r) + r^2 / 2 with the error rate r and the AUROC of the score at
    telling right from wrong; unlike AURC it does not overrate the few most certain samples.

    Args:
        score: Larger = more certain, shape [N].
        correct: Whether the prediction is right, bool, shape [N].

    Returns:
        Fraction in [0, 1/2]; lower is better.

    Example:
        >>> augrc(torch.tensor([2.0, 1.0]), torch.tensor([True, False]))  # (1/2)^2 / 2
        0.125

    Reference:
        Traub et al., Overcoming common flaws in the evaluation of selective classification systems
        (2024), AUGRC.
    """
    return risk_coverage(score, correct).augrc


def _up_to(n: int) -> Tensor:
    """1, 2, ... n in float64."""
    return torch.arange(1, n + 1, dtype=torch.float64)
