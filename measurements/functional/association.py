"""Does a property of a model go with a benefit? Correlations over lineages of models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from core.errors import NotApplicable
from measurements.functional.intervals import Interval
from measurements.functional.multiplicity import holm

FEWEST_LINEAGES = 10

DRAWS = 2000
"""Permutations and resamples, unless the number of pairs asks for more permutations."""

DRAWS_A_PAIR = 40
"""So the smallest p-value is still below 0.05 after the adjustment for all pairs."""

COUPLED = (
    frozenset({"accuracy", "top5_accuracy", "macro_accuracy", "worst_class_accuracy",
               "real_accuracy", "human_cross_entropy", "margin", "conformal_size", "nll",
               "brier", "confidence_gap", "ece", "mce", "calibration_error_debiased", "aurc",
               "eaurc", "augrc", "risk_at_coverage", "coverage_at_risk"}),
    frozenset({"params", "nonzero_params", "macs", "effective_macs", "bit_operations",
               "weight_bits", "weight_bytes", "file_bytes_gzip", "weight_sparsity",
               "channel_sparsity", "channel_zeros", "pattern_share"}),
    frozenset({"churn", "agreement", "negative_flip_rate", "positive_flip_rate", "nfr_relative",
               "unnecessary_churn", "delta_accuracy", "kl", "js", "total_variation"}),
)  # fmt: skip
"""Families of numbers that follow from each other by arithmetic: their correlation is no news.

A name stands for all that begin with it and an underscore, such as those of single layers.
"""

VALUES_AT_ONCE = 2**21
"""Numbers of a block of permutations: 16 MB in float64."""


@dataclass(frozen=True, kw_only=True)
class Association:
    """How a property and a benefit go together over lineages."""

    spearman: float  # in [-1, 1]
    spearman_interval: Interval  # 95 %, percentile bootstrap over lineages
    pearson: float  # in [-1, 1]
    p_value: float  # two-sided permutation test of the Spearman correlation
    lineages: int
    models: int
    adjusted: float  # Holm over all pairs that were looked at; p_value itself for a single pair


def associate(
    prop: Sequence[float],
    benefit: Sequence[float],
    lineages: Sequence[str],
    *,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> Association:
    """Correlate a property with a benefit, one point a lineage.

    Models compressed from one baseline resemble each other, so they are no independent evidence:
    each lineage enters as the mean of its models, and whole lineages are permuted and resampled.

    Args:
        prop: The property, one value a model.
        benefit: The benefit, one value a model.
        lineages: What each model was made from; equal names belong together.
        generator: Draws permutations and resamples.
        draws: Number of permutations, and of resamples up to 2000.

    Raises:
        NotApplicable: There are fewer than 10 lineages, or one side does not vary.

    Example:
        >>> names = [str(i) for i in range(10)]
        >>> found = associate(
        ...     range(10), [i * i for i in range(10)], names, generator=np.random.default_rng(0)
        ... )
        >>> round(found.spearman, 6), round(found.pearson, 4), found.p_value < 0.01
        (1.0, 0.9627, True)

    Reference:
        Jiang et al., Fantastic generalization measures and where to find them (2020); Good,
        Permutation tests (2000).
    """
    names = list(dict.fromkeys(lineages))
    if not len(prop) == len(benefit) == len(lineages):
        raise ValueError(
            "expected one property, benefit and lineage a model, "
            f"got {len(prop)}, {len(benefit)} and {len(lineages)}"
        )
    _require_lineages(len(names))
    x, y = (_by_lineage(values, lineages, names) for values in (prop, benefit))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise NotApplicable("one side is the same for every lineage, so nothing can go with it")
    spearman = _pearson(_ranks(x), _ranks(y))
    p_value = _permutation_p(_ranks(x), _ranks(y), generator, draws)
    return Association(
        spearman=spearman,
        spearman_interval=_bootstrap_interval(x, y, generator, min(draws, DRAWS)),
        pearson=_pearson(x, y),
        p_value=p_value,
        lineages=len(names),
        models=len(lineages),
        adjusted=p_value,
    )


def associate_all(
    properties: Mapping[str, Sequence[float | None]],
    benefits: Mapping[str, Sequence[float | None]],
    lineages: Sequence[str],
    *,
    generator: np.random.Generator,
    draws: int | None = None,
    left_out: Callable[[str, str], bool] | None = None,
) -> dict[tuple[str, str], Association]:
    """Every property against every benefit, with p-values adjusted for how many there are.

    Pairs that are coupled by arithmetic, pairs of which one side does not vary, and pairs that
    fewer than 10 lineages have both sides of, are left out.

    Args:
        properties: Name -> one value a model, None where it was not measured.
        benefits: Name -> one value a model, None where it was not measured.
        lineages: What each model was made from.
        generator: Draws permutations and resamples.
        draws: Number of each; None: as many as the number of pairs asks for.
        left_out: Whether a property and a benefit are coupled; by default `coupled` says.

    Raises:
        NotApplicable: There are fewer than 10 lineages.

    Example:
        >>> names, rising = [str(i) for i in range(10)], list(range(10))
        >>> found = associate_all(
        ...     {"sharpness": rising, "nll": rising}, {"accuracy": rising}, names,
        ...     generator=np.random.default_rng(0),
        ... )
        >>> list(found)
        [('sharpness', 'accuracy')]
    """
    _require_lineages(len(set(lineages)))
    refused = left_out or coupled
    columns = {
        (name, other): _of_both(properties[name], benefits[other], lineages)
        for name, other in product(properties, benefits)
        if not refused(name, other)
    }
    enough = {
        pair: rows
        for pair, rows in columns.items()
        if len({owner for _, _, owner in rows}) >= FEWEST_LINEAGES
    }
    draws = draws or max(DRAWS, DRAWS_A_PAIR * len(enough))
    found = {}
    for pair, rows in enough.items():
        x, y, owners = zip(*rows, strict=True)
        try:
            found[pair] = associate(x, y, owners, generator=generator, draws=draws)
        except NotApplicable:
            continue  # what is left out is documented
    adjusted = holm([one.p_value for one in found.values()])
    return {
        pair: Association(**{**vars(one), "adjusted": p})
        for (pair, one), p in zip(found.items(), adjusted, strict=True)
    }


def _of_both(
    xs: Sequence[float | None], ys: Sequence[float | None], lineages: Sequence[str]
) -> list[tuple[float, float, str]]:
    """Property, benefit and lineage of the models that have both."""
    rows = zip(xs, ys, lineages, strict=True)
    return [(x, y, owner) for x, y, owner in rows if x is not None and y is not None]


def coupled(name: str, other: str) -> bool:
    """Whether two numbers follow from each other by arithmetic.

    Args:
        name: What was measured, without dataset, split and view.
        other: The same of the other side.

    Example:
        >>> coupled("accuracy", "nll"), coupled("accuracy", "params")
        (True, False)
        >>> coupled("delta_nll", "delta_accuracy"), coupled("risk_at_coverage_80", "accuracy")
        (True, True)
    """
    pairs = [(name, other), (name.removeprefix("delta_"), other.removeprefix("delta_"))]
    return any(
        one == two or any(_is_of(family, one) and _is_of(family, two) for family in COUPLED)
        for one, two in pairs
    )


def _is_of(family: frozenset[str], name: str) -> bool:
    return any(f"{name}_".startswith(f"{stem}_") for stem in family)


def _require_lineages(found: int) -> None:
    if found < FEWEST_LINEAGES:
        raise NotApplicable(
            f"property against benefit needs {FEWEST_LINEAGES} lineages of models, got {found}; "
            f"evaluate models made from {FEWEST_LINEAGES - found} more baselines"
        )


def _by_lineage(
    values: Sequence[float], lineages: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    column = np.asarray(values, dtype=np.float64)
    if not np.isfinite(column).all():
        raise ValueError("expected finite values; leave out models without one of the two")
    owner = np.asarray(lineages)
    return np.array([column[owner == name].mean() for name in names])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values get the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def _permutation_p(
    x: np.ndarray, y: np.ndarray, generator: np.random.Generator, draws: int
) -> float:
    x, y = x - x.mean(), y - y.mean()
    observed = abs(x @ y)  # the spread of both is the same in every permutation
    at_once, as_far = max(1, VALUES_AT_ONCE // len(y)), 0
    for start in range(0, draws, at_once):
        block = np.tile(y, (min(at_once, draws - start), 1))
        shuffled = generator.permuted(block, axis=1)
        as_far += int((np.abs(shuffled @ x) >= observed * (1 - 1e-12)).sum())
    return (1 + as_far) / (1 + draws)


def _bootstrap_interval(
    x: np.ndarray, y: np.ndarray, generator: np.random.Generator, draws: int
) -> Interval:
    even = np.full(len(x), 1 / len(x))
    weights = generator.multinomial(len(x), even, size=draws).astype(np.float64)
    x, y = (_centred_ranks(weights, values) for values in (x, y))
    norms = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
    varied = norms > 1e-9  # else there is no correlation
    found = (weights * x * y).sum(axis=1)[varied] / norms[varied]
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return Interval(low, high)


def _centred_ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each value within each resample, minus the mean rank of the resample.

    Args:
        weights: How often each value was drawn, [draws, n].
        values: [n].
    """
    lower = weights @ (values[:, None] < values[None, :])
    equal = weights @ (values[:, None] == values[None, :])
    return lower + equal / 2 - len(values) / 2
