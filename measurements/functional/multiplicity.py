"""Many tests at once: adjusted p-values, and the verdict that no harm was done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from measurements.functional.intervals import Interval

Verdict = Literal["non-inferior", "inferior", "undecided"]

MARGIN = 0.01
"""Share of the baseline's accuracy that may be lost unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """Whether a loss is certainly smaller than what was declared bearable."""

    margin: float  # bearable loss of accuracy, a fraction
    slack: float  # lower end of the interval plus margin; positive = non-inferior
    verdict: Verdict


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the chance of any false discovery.

    Args:
        p_values: One a test, in [0, 1], any order.

    Returns:
        In the order given, at most 1. Those below 0.05 are significant together.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Reference:
        Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    order = _ascending(p_values)
    adjusted, largest = [0.0] * len(order), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that bound the expected share of false discoveries.

    Args:
        p_values: One a test, in [0, 1], any order; independent or positively dependent.

    Returns:
        In the order given, at most 1, never above those of `holm`.

    Example:
        >>> [round(p, 6) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
        [0.03, 0.04, 0.04]

    Reference:
        Benjamini & Hochberg, Controlling the false discovery rate (1995).
    """
    order = _ascending(p_values)
    adjusted, smallest = [0.0] * len(order), 1.0
    for place in reversed(range(len(order))):
        i = order[place]
        smallest = min(smallest, p_values[i] * len(order) / (place + 1))
        adjusted[i] = smallest
    return adjusted


def non_inferiority(
    delta: Interval, *, baseline_accuracy: float, margin: float | None = None
) -> NonInferiority:
    """Judge a change of accuracy against the loss that is bearable.

    Args:
        delta: Two-sided 95 % interval of accuracy minus the baseline's, paired.
        baseline_accuracy: Fraction in [0, 1].
        margin: Bearable loss, a fraction; None = 1 % of the baseline's accuracy. With 0 it is a
            one-sided test of superiority.

    Returns:
        `non-inferior` where the whole interval lies above -margin, `inferior` where all of it lies
        below, else `undecided`: more samples could tell.

    Example:
        >>> non_inferiority(Interval(-0.005, 0.001), baseline_accuracy=0.75).verdict
        'non-inferior'
        >>> non_inferiority(Interval(-0.01, 0.001), baseline_accuracy=0.75).verdict
        'undecided'

    Reference:
        Blackwelder, "Proving the null hypothesis" in clinical trials (1982).
    """
    bearable = MARGIN * baseline_accuracy if margin is None else margin
    if bearable < 0:
        raise ValueError(f"margin is a loss that can be borne, at least 0, got {margin}")
    verdict: Verdict = "undecided"
    if delta.low > -bearable:
        verdict = "non-inferior"
    elif delta.high < -bearable:
        verdict = "inferior"
    return NonInferiority(margin=bearable, slack=delta.low + bearable, verdict=verdict)


def _ascending(p_values: Sequence[float]) -> list[int]:
    wrong = [p for p in p_values if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"expected p-values in [0, 1], got {wrong}")
    return sorted(range(len(p_values)), key=lambda i: p_values[i])
