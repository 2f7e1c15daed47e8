"""95 % intervals. All speak of the test sample, none of what changes from seed to seed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from measurements.functional.checks import require_columns

Z95 = 1.959964
"""Two-sided 95 % point of the standard normal distribution."""

DRAWS = 2000
"""Resamples of a bootstrap."""

ROUNDING = 1e-9
"""How far the difference of two accuracies may exceed the discordant share it cannot exceed."""

PICKS_AT_ONCE = 2**20
"""Resampled ids held at a time; 4 MB of them stay in the cache of a processor."""


class Interval(NamedTuple):
    """Ends of an interval, `low <= high`."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of paired differences, with the standard error of a normal interval."""

    mean: float
    standard_error: float

    @property
    def interval(self) -> Interval:
        """Two-sided 95 % interval; of width 0 where all samples differ by the same."""
        half = Z95 * self.standard_error
        return Interval(self.mean - half, self.mean + half)


def wilson_interval(hits: int, n: int) -> Interval:
    """Score interval of a proportion: never outside [0, 1], of use also at 0 or n hits.

    Args:
        hits: Successes, 0 to `n`.
        n: Trials, at least 1.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> round(low, 5), round(high, 5)
        (0.49016, 0.94332)

    Reference:
        Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n and n >= 1, got hits={hits} and n={n}")
    p, z2n = hits / n, Z95**2 / n
    centre = p + z2n / 2
    half = math.sqrt(z2n * (p * (1 - p) + z2n / 4))
    high = 1.0 if hits == n else (centre + half) / (1 + z2n)  # rounding may leave it just below 1
    return Interval((centre - half) / (1 + z2n), high)


def percentile_interval(draws: Tensor, *, level: float = 0.95) -> Interval:
    """Central share `level` of bootstrap draws.

    Args:
        draws: Values of the statistic on resamples, shape [B], finite.
        level: In (0, 1); the ends are interpolated linearly.

    Example:
        >>> percentile_interval(torch.arange(101.0), level=0.5)
        Interval(low=25.0, high=75.0)

    Reference:
        Efron & Tibshirani, An introduction to the bootstrap (1993), chapter 13.
    """
    require_columns(draws=draws)
    if not draws.isfinite().all():
        raise ValueError("expected finite draws: the statistic has no value on some resample")
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = draws.double().quantile(tails).tolist()
    return Interval(low, high)


def median_interval(values: Tensor) -> Interval:
    """Two-sided interval of the median of a continuous quantity, of at least 95 % in every sample.

    The ends are observed values: the median lies below the k-th smallest with the chance of fewer
    than k heads in N tosses.

    Args:
        values: Independent observations, shape [N], N >= 6.

    Example:
        >>> median_interval(torch.arange(1.0, 11.0))  # P(< 2 heads in 10) = 11/1024
        Interval(low=2.0, high=9.0)

    Reference:
        Thompson, On confidence ranges for the median (1936).
    """
    require_columns(values=values)
    n = len(values)
    if n < 6:
        raise ValueError(f"expected at least 6 observations for a 95 % interval, got {n}")
    heads = torch.arange(n // 2, dtype=torch.float64)
    log_chance = math.lgamma(n + 1) - torch.lgamma(heads + 1) - torch.lgamma(n - heads + 1)
    tails = (log_chance - n * math.log(2)).logcumsumexp(dim=0).exp()
    k = int((tails <= 0.025).sum())
    ordered = values.double().sort().values
    return Interval(ordered[k - 1].item(), ordered[n - k].item())


def bootstrap_means(values: Tensor, *, draws: int = DRAWS, generator: torch.Generator) -> Tensor:
    """Means of `draws` resamples of `values` with replacement.

    Args:
        values: One number a sample, shape [N], on the CPU.
        draws: Number of resamples B.
        generator: Chooses the samples; equal seeds and N choose equal samples.

    Returns:
        Float64 [B].

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> bootstrap_means(torch.full((9,), 0.5), draws=2, generator=generator).tolist()
        [0.5, 0.5]

    Reference:
        Efron, Bootstrap methods: another look at the jackknife (1979).
    """
    require_columns(values=values)
    values, n = values.double(), len(values)
    means = []
    for start in range(0, draws, _rows_at_once(n)):
        rows = min(_rows_at_once(n), draws - start)
        picks = torch.randint(n, (rows * n,), generator=generator, dtype=torch.int32)
        means.append(values.index_select(0, picks).view(rows, n).mean(dim=1))
    return torch.cat(means)


def bootstrap_mean_interval(
    values: Tensor, *, draws: int = DRAWS, generator: torch.Generator
) -> Interval:
    """Percentile interval of the mean of `values` [N].

    Example:
        >>> values = torch.arange(100.0)
        >>> low, high = bootstrap_mean_interval(values, generator=torch.Generator().manual_seed(0))
        >>> 43 < low < 45 < 54 < high < 56  # 49.5 -+ 1.96 x 28.9 / 10
        True
    """
    return percentile_interval(bootstrap_means(values, draws=draws, generator=generator))


def bootstrap_proportions(
    hits: int, n: int, *, draws: int = DRAWS, generator: torch.Generator
) -> Tensor:
    """What `bootstrap_means` gives for `hits` ones among `n` zeros and ones, without resampling.

    The number of ones in a resample is binomial, so one random number replaces n of them.

    Returns:
        Float64 [B] in [0, 1], multiples of 1/n.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> bootstrap_proportions(7, 7, draws=2, generator=generator).tolist()
        [1.0, 1.0]

    Reference:
        Efron, Bootstrap methods: another look at the jackknife (1979).
    """
    if n < 1 or not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n and n >= 1, got hits={hits} and n={n}")
    trials = torch.full((draws,), float(n), dtype=torch.float64)
    chance = torch.full((draws,), hits / n, dtype=torch.float64)
    return torch.binomial(trials, chance, generator=generator) / n


def bootstrap_draws(
    statistic: Callable[[Tensor], Mapping[str, float]],
    n: int,
    *,
    draws: int = DRAWS,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Values of any statistic on resamples of the sample ids.

    For a comparison of two models let `statistic` take both at the ids it is given, or draw twice
    with equal seeds: then both models are resampled alike.

    Args:
        statistic: Ids, int64 [n] in [0, n) with repeats -> name -> value; always the same names.
        n: Number of samples.
        draws: Number of resamples B.
        generator: Chooses the samples; equal seeds and `n` choose equal samples.

    Returns:
        Name -> float64 [B].

    Example:
        >>> found = bootstrap_draws(
        ...     lambda ids: {"size": len(ids)}, 7, draws=2, generator=torch.Generator()
        ... )
        >>> found["size"].tolist()
        [7.0, 7.0]

    Reference:
        Efron, Bootstrap methods: another look at the jackknife (1979).
    """
    if n < 1 or draws < 1:
        raise ValueError(f"expected at least one sample and one draw, got n={n}, draws={draws}")
    found = [statistic(torch.randint(n, (n,), generator=generator)) for _ in range(draws)]
    return {
        name: torch.tensor([values[name] for values in found], dtype=torch.float64)
        for name in found[0]
    }


def paired_difference(differences: Tensor) -> Difference:
    """Mean of per-sample differences, with its standard error sd/sqrt(N).

    Args:
        differences: Model minus baseline on the same sample, shape [N].

    Returns:
        The standard deviation divides by N, so that for hits and misses it is the one of
        `accuracy_difference`.

    Example:
        >>> paired_difference(torch.tensor([1.0, -1.0, 1.0, -1.0]))
        Difference(mean=0.0, standard_error=0.5)

    Reference:
        Miller, Adding error bars to evals (2024), paired differences.
    """
    require_columns(differences=differences)
    differences = differences.double()
    deviation = differences.std(correction=0).item()
    return Difference(
        mean=differences.mean().item(), standard_error=deviation / math.sqrt(len(differences))
    )


def mean_difference_interval(differences: Tensor) -> Interval:
    """Two-sided 95 % normal interval of the mean of per-sample differences [N].

    Example:
        >>> low, high = mean_difference_interval(torch.tensor([1.0, -1.0, 1.0, -1.0]))
        >>> round(low, 3), round(high, 3)
        (-0.98, 0.98)
    """
    return paired_difference(differences).interval


def accuracy_difference(delta: float, *, discordant: float, n: int) -> Difference:
    """Difference of two accuracies on the same samples, from published numbers alone.

    Args:
        delta: Accuracy of the model minus that of the baseline, in [-1, 1].
        discordant: Share of samples that exactly one of the two has right, in [|delta|, 1].
        n: Number of samples.

    Returns:
        Standard error sqrt((discordant - delta^2) / n): up to 3 times smaller than that of two
        independent samples.

    Example:
        >>> found = accuracy_difference(-0.002, discordant=0.04, n=50_000)
        >>> round(found.standard_error, 5), round(found.mean / found.standard_error, 2)
        (0.00089, -2.24)

    Reference:
        Dietterich, Approximate statistical tests for comparing classifiers (1998); Miller,
        Adding error bars to evals (2024).
    """
    if n < 1 or not abs(delta) <= discordant + ROUNDING <= 1 + 2 * ROUNDING:
        raise ValueError(
            "expected |delta| <= discordant <= 1 and n >= 1, "
            f"got delta={delta}, discordant={discordant}, n={n}"
        )
    return Difference(mean=delta, standard_error=math.sqrt(max(0.0, discordant - delta**2) / n))


def _rows_at_once(n: int) -> int:
    return max(1, PICKS_AT_ONCE // n)
