"""Intervals of statistics that a resample with replacement would spoil.

A duplicated sample is its own neighbour at distance 0 and resembles itself perfectly, so the
bootstrap is wrong for everything made of distances or similarities. Here samples are only left out.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from measurements.functional.intervals import Interval

GROUPS = 20
"""Groups of samples; each is left out once."""

T95 = 2.093024
"""Two-sided 95 % point of Student's t with 19 degrees of freedom, one less than `GROUPS`."""


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """A statistic of all samples, with its standard error."""

    value: float
    standard_error: float

    @property
    def interval(self) -> Interval:
        """Two-sided 95 % interval by Student's t."""
        half = T95 * self.standard_error
        return Interval(self.value - half, self.value + half)


def delete_group_jackknife(
    statistic: Callable[[Tensor], Mapping[str, float]], n: int, *, generator: torch.Generator
) -> dict[str, Jackknife]:
    """Values of a statistic, and how much they change when a twentieth of the samples is left out.

    Args:
        statistic: Ids, int64, ascending, no repeats, in [0, n) -> name -> value; always the same
            names. It is called with all ids, then 20 times with about 95 % of them.
        n: Number of samples, at least 20.
        generator: Deals the samples out to the groups, whose sizes differ by at most 1.

    Returns:
        Name -> value and standard error sqrt(19/20 sum_g (value_g - mean of value_g)^2).

    Example:
        >>> values = torch.arange(20.0)  # groups of one: 5.9161 / sqrt 20
        >>> found = delete_group_jackknife(
        ...     lambda ids: {"mean": values[ids].mean().item()}, 20, generator=torch.Generator()
        ... )
        >>> found["mean"].value, round(found["mean"].standard_error, 4)
        (9.5, 1.3229)

    Reference:
        Kott, The delete-a-group jackknife (2001).
    """
    if n < GROUPS:
        raise ValueError(f"expected at least {GROUPS} samples, one a group, got {n}")
    whole = statistic(torch.arange(n))
    deleted = [statistic(ids) for ids in _without_each_group(n, generator)]
    return {
        name: Jackknife(
            value=float(value),
            standard_error=_standard_error([values[name] for values in deleted]),
        )
        for name, value in whole.items()
    }


def _without_each_group(n: int, generator: torch.Generator) -> list[Tensor]:
    """The ids that are left, ascending, once for each group."""
    group = torch.empty(n, dtype=torch.int64)
    group[torch.randperm(n, generator=generator)] = torch.arange(n) % GROUPS
    return [(group != left_out).nonzero().flatten() for left_out in range(GROUPS)]


def _standard_error(values: list[float]) -> float:
    deviations = torch.tensor(values, dtype=torch.float64).std(correction=0).item()
    return deviations * math.sqrt(GROUPS - 1)
