"""How much of a network a search has to remove, and the largest candidate that does."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, get_args

from compressors.search.oracle import Candidate, Oracle, Quantity, Ratios
from compressors.selection import sparsity_faults
from core.errors import ConfigError, IncompatibleModel, unknown

ROUNDING = 1e-9
"""1 - 70 / 100 is less than 0.3 in binary."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What has to go.

    Args:
        quantity: Counted parameters, counted multiply-accumulates, or measured latency.
        sparsity: Fraction of it to remove, in [0, 1).

    Raises:
        ConfigError: All that is wrong.
    """

    quantity: Quantity
    sparsity: float

    def __post_init__(self) -> None:
        faults = [f"compressor.sparsity: {fault}" for fault in sparsity_faults(self.sparsity)]
        if self.quantity not in get_args(Quantity):
            faults.append(unknown("compressor.budget", self.quantity, get_args(Quantity)))
        if faults:
            raise ConfigError(faults)

    def is_met(self, oracle: Oracle, candidate: Candidate) -> bool:
        """Whether a candidate removes enough."""
        return oracle.removed(candidate, self.quantity) >= self.sparsity - ROUNDING


class Fit(NamedTuple):
    """A candidate that just meets a budget, and what was asked for to get it."""

    ratios: dict[str, float]
    candidate: Candidate


def fitted(
    oracle: Oracle, budget: Budget, direction: Ratios, start: Ratios | None = None
) -> Fit | None:
    """The largest candidate within the budget on the way from `start` into a direction.

    Filters are whole, so the way has finitely many steps, and each removes more than the one
    before: bisection finds the first that removes enough. The way ends where the narrower network
    could not be made any more; where one cannot, it is taken that none behind it can.

    Args:
        oracle: Tells costs; nothing is scored.
        budget: What has to go.
        direction: Group -> how fast it loses filters; left out or 0: not at all.
        start: Group -> fraction that is gone at least; left out: 0.

    Returns:
        None where even the end of the way removes too little.
    """
    start = start or {}
    steps = sorted({0.0, *_steps(oracle, direction, start)})

    def at(step: int) -> Fit:
        names = {name for ratios in (start, direction) for name in ratios}
        wanted = {n: start.get(n, 0.0) + steps[step] * direction.get(n, 0.0) for n in names}
        ratios = {
            n: min(wanted[n], 1 - 1 / oracle.filters[n]) for n in oracle.filters if n in names
        }
        return Fit(ratios, oracle.candidate(ratios))

    def first(end: int, reached: Callable[[Candidate], bool]) -> int:
        """The first step before `end` that gets there, or `end`."""
        return bisect_left(range(end), True, key=lambda step: reached(at(step).candidate))

    last = len(steps) - 1
    if at(last).candidate.obstacle:
        last = max(first(last, lambda candidate: bool(candidate.obstacle)) - 1, 0)
    if not budget.is_met(oracle, at(last).candidate):
        return None
    return at(first(last, lambda candidate: budget.is_met(oracle, candidate)))


def alike(oracle: Oracle, budget: Budget) -> Fit | None:
    """As `uniform`; None where no candidate meets the budget."""
    return fitted(oracle, budget, dict.fromkeys(oracle.filters, 1.0))


def uniform(oracle: Oracle, budget: Budget) -> Fit:
    """The largest candidate within the budget that takes the same share of every group.

    Raises:
        ConfigError: No candidate meets the budget; with what the most extreme one reaches.
        IncompatibleModel: The candidates that would meet it cannot be made.
    """
    fit = alike(oracle, budget)
    if fit is not None:
        return fit
    extreme = oracle.candidate({name: 1 - 1 / n for name, n in oracle.filters.items()})
    if extreme.obstacle:
        raise IncompatibleModel(
            f"{oracle.name}: no network that loses the same share of every layer meets the budget: "
            f"the narrower ones cannot be made, because {extreme.obstacle}"
        )
    reached = oracle.removed(extreme, budget.quantity)
    raise ConfigError(
        [
            f"compressor.sparsity={budget.sparsity:g} of the {budget.quantity} cannot be "
            f"removed: with a single filter left in each of {', '.join(oracle.filters)}, "
            f"{reached:.3g} of them is gone; lower it, or select more layers"
        ]
    )


def _steps(oracle: Oracle, direction: Ratios, start: Ratios) -> Iterator[float]:
    """How far to go until a group loses its next filter."""
    for name, speed in direction.items():
        if speed > 0:
            filters, gone = oracle.filters[name], start.get(name, 0.0)
            first = math.floor(gone * filters + ROUNDING) + 1
            yield from ((count / filters - gone) / speed for count in range(first, filters))


def ceil_of(steps: float) -> int:
    """How many steps it takes; 0.3 / 0.1 is 3 of them.

    Example:
        >>> ceil_of(0.3 / 0.1), ceil_of(0.5 / 0.05), ceil_of(0.31 / 0.1)
        (3, 10, 4)
    """
    return math.ceil(steps - ROUNDING)
