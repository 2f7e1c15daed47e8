"""Many verdicts at once: what is left of them when the number of questions is counted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from measurements.functional.multiplicity import benjamini_hochberg, holm
from reporting.compare import Row
from reporting.population import Member

LEVEL = 0.05

Z = 1.959964
"""Half a 95 % interval of the normal distribution, in standard errors."""

Source = Literal["test", "interval"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One question about a pair of models, and its answer among all others of the same pair.

    Args:
        run_id: The compressed model's run.
        name: Result name: of a p-value, or of what changed.
        source: `test`: the p-value was measured; `interval`: it follows from the interval of the
            paired difference, its half towards 0 taken as normal.
        difference: Compressed minus baseline, where the question is about one.
        p_value: Two-sided.
        holm: Adjusted for all questions of the run: bounds the chance of any false answer.
        benjamini_hochberg: Adjusted: bounds the expected share of false answers.
        verdict: Of the question by itself.
        verdict_holm: The same after Holm: `better`, `worse`, `different` or `unresolved`.
    """

    run_id: str
    name: str
    source: Source
    difference: float | None
    p_value: float
    holm: float
    benjamini_hochberg: float
    verdict: str
    verdict_holm: str


def significance(members: Sequence[Member]) -> Iterator[Judged]:
    """Every paired p-value of every run, adjusted within its run."""
    for member in members:
        if member.run.baseline is None:
            continue
        asked = [(row, *found) for row in member.rows.values() if (found := _p_value(row))]
        p_values = [p for _, _, p in asked]
        adjusted = zip(asked, holm(p_values), benjamini_hochberg(p_values), strict=True)
        for (row, source, p), bounded, discovered in adjusted:
            yield Judged(
                run_id=member.run_id,
                name=row.name,
                source=source,
                difference=None if source == "test" or row.change is None else float(row.change),
                p_value=p,
                holm=bounded,
                benjamini_hochberg=discovered,
                verdict=_verdict(row, p) if source == "test" else row.verdict,
                verdict_holm=_verdict(row, bounded),
            )


def interval_p_value(value: float, low: float, high: float) -> float:
    """Two-sided p-value of no difference, from a 95 % interval.

    The half of the interval towards 0 is taken as that of a normal distribution: the p-value is
    below 0.05 exactly where the interval does not hold 0, also where it is skewed.

    Example:
        >>> round(interval_p_value(-0.5, -1.0, 0.0), 6)
        0.05
        >>> interval_p_value(1.0, 0.01, 3.0) < 0.05
        True
        >>> interval_p_value(0.0, 0.0, 0.0)
        1.0
    """
    if value == 0:
        return 1.0
    error = (value - low if value > 0 else high - value) / Z
    return math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else 0.0


def _p_value(row: Row) -> tuple[Source, float] | None:
    if row.kind == "paired" and row.unit == "p" and row.values:
        return "test", float(row.values[-1])
    change = row.difference
    if change is None or change.low is None or change.high is None:
        return None
    return "interval", interval_p_value(float(change), change.low, change.high)


def _verdict(row: Row, p_value: float) -> str:
    if row.verdict == "no difference":
        return row.verdict
    if p_value >= LEVEL:
        return "unresolved"
    if row.change is None or not row.better:
        return "different"
    return "better" if (row.change > 0) == (row.better == "higher") else "worse"
