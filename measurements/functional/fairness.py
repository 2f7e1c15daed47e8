"""Is the model as good for every group of samples, and did compression keep it so?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns
from measurements.functional.intervals import DRAWS, Interval, wilson_interval

NO_GROUP = -1
"""Code of a sample that belongs to no group; it is left out."""

SHUFFLES = 200
"""Permutations of a number that has to be worked out anew for each."""

RELATIVE = 1e-9
"""Gaps are differences of fractions: those that differ by less are equal."""


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Hits and sizes of the groups that have a sample, in the order of their codes."""

    codes: Tensor  # [G] int64
    hits: Tensor  # [G] int64
    sizes: Tensor  # [G] int64, at least 1

    @property
    def accuracies(self) -> Tensor:
        """Share of each group's samples that are right, float64 [G]."""
        return self.hits.double() / self.sizes

    @property
    def intervals(self) -> list[Interval]:
        """95 % Wilson interval of each accuracy."""
        pairs = zip(self.hits.tolist(), self.sizes.tolist(), strict=True)
        return [wilson_interval(hits, n) for hits, n in pairs]

    @property
    def worst(self) -> float:
        """Lowest accuracy of a group; biased downward where groups are small."""
        return self.accuracies.min().item()

    @property
    def gap(self) -> float:
        """Highest minus lowest accuracy, in [0, 1]; biased upward where groups are small."""
        return (self.accuracies.max() - self.accuracies.min()).item()

    @property
    def ratio(self) -> float:
        """Lowest over highest accuracy, in [0, 1]; 1 where no group has a hit."""
        best = self.accuracies.max().item()
        return self.worst / best if best else 1.0

    @property
    def smallest(self) -> int:
        """Samples of the smallest group."""
        return int(self.sizes.min())


@dataclass(frozen=True, kw_only=True)
class Permutation:
    """A statistic beside what it is where group and outcome have nothing to do with each other."""

    value: float
    null_mean: float  # its mean over permutations: the bias of the statistic
    null: Interval  # central 95 % of the permutations
    p_value: float  # one-sided: share of permutations with at least this value, itself counted


@dataclass(frozen=True, kw_only=True)
class ClassSpread:
    """How much the change of recall differs from class to class."""

    observed: float  # standard deviation of the per-class changes
    expected: float  # what sampling noise alone gives
    classes: int

    @property
    def ratio(self) -> float | None:
        """Observed over expected; about 1 where all classes changed alike; None without noise."""
        return self.observed / self.expected if self.expected else None


def group_accuracies(correct: Tensor, groups: Tensor) -> Groups:
    """Count hits group by group.

    Args:
        correct: Whether the prediction is right, bool, shape [N].
        groups: Code of each sample's group, int64, shape [N]; -1 for none.

    Raises:
        NotApplicable: Fewer than two groups have a sample.

    Example:
        >>> found = group_accuracies(torch.tensor([1, 1, 1, 0]).bool(), torch.tensor([0, 0, 1, 1]))
        >>> found.worst, found.gap, found.ratio, found.smallest
        (0.5, 0.5, 0.5, 2)

    Reference:
        Sagawa et al., Distributionally robust neural networks (2020), worst-group accuracy.
    """
    require_columns(correct=correct, groups=groups)
    member = groups != NO_GROUP
    sizes = torch.bincount(groups[member])
    hits = torch.bincount(groups[member & correct], minlength=len(sizes))
    codes = sizes.nonzero().squeeze(1)
    if len(codes) < 2:
        raise NotApplicable(f"a comparison needs two groups with samples, got {len(codes)}")
    return Groups(codes=codes, hits=hits[codes], sizes=sizes[codes])


def gap_permutation(
    correct: Tensor, groups: Tensor, *, draws: int = DRAWS, generator: np.random.Generator
) -> Permutation:
    """Highest minus lowest accuracy of the groups, against the same with groups shuffled.

    Args:
        correct: Whether the prediction is right, bool, shape [N].
        groups: Code of each sample's group, int64, shape [N]; -1 for none.
        draws: Number of permutations.
        generator: Draws them.

    Returns:
        A gap of groups that have nothing to do with the hits is positive all the same: compare it
        with `null_mean`.

    Example:
        >>> right, groups = torch.arange(40) < 20, torch.arange(40) // 20
        >>> found = gap_permutation(right, groups, generator=np.random.default_rng(0))
        >>> found.value, found.p_value < 0.001, 0.05 < found.null_mean < 0.2
        (1.0, True, True)

    Reference:
        Fisher, The design of experiments (1935); the gap is that of Sagawa et al. (2020).
    """
    found = group_accuracies(correct, groups)
    wrong = found.sizes - found.hits
    counts = permuted_counts(
        found.sizes.numpy(), torch.stack([wrong.sum(), found.hits.sum()]).numpy(), draws, generator
    )
    accuracies = counts[:, :, 1] / found.sizes.numpy()
    return _against(found.gap, np.ptp(accuracies, axis=1))


def disparity_amplification(
    correct: Tensor,
    groups: Tensor,
    *,
    baseline: Tensor,
    draws: int = DRAWS,
    generator: np.random.Generator,
) -> Permutation:
    """Gap between groups minus the baseline's gap, against the same with groups shuffled.

    A shuffle moves both models' answers to a sample together.

    Args:
        correct: Whether the model is right, bool, shape [N].
        groups: Code of each sample's group, int64, shape [N]; -1 for none.
        baseline: Whether the baseline is right, bool, shape [N].
        draws: Number of permutations.
        generator: Draws them.

    Returns:
        In [-1, 1]; lower is better; positive where compression widened the gap.

    Example:
        >>> right, groups = torch.ones(40, dtype=torch.bool), torch.arange(40) // 20
        >>> found = disparity_amplification(
        ...     groups == 0, groups, baseline=right, generator=np.random.default_rng(0)
        ... )
        >>> found.value, found.p_value < 0.001
        (1.0, True)

    Reference:
        Hooker et al., Characterising bias in compressed models (2020); Tran et al., Pruning has a
        disparate impact on model accuracy (2022).
    """
    require_columns(correct=correct, groups=groups, baseline=baseline)
    now, before = group_accuracies(correct, groups), group_accuracies(baseline, groups)
    kinds = 2 * baseline.long() + correct.long()  # of neither, model alone, baseline alone, both
    totals = torch.bincount(kinds[groups != NO_GROUP], minlength=4)
    sizes = now.sizes.numpy()
    counts = permuted_counts(sizes, totals.numpy(), draws, generator)
    gap_now = np.ptp((counts[:, :, 1] + counts[:, :, 3]) / sizes, axis=1)
    gap_before = np.ptp((counts[:, :, 2] + counts[:, :, 3]) / sizes, axis=1)
    return _against(now.gap - before.gap, gap_now - gap_before)


def group_means(values: Tensor, groups: Tensor, *, count: int) -> Tensor:
    """Mean of the values of every group.

    Args:
        values: One number a sample, shape [N].
        groups: Code of each sample's group, int64, shape [N]; -1 for none.
        count: Number of groups G.

    Returns:
        Float64 [G]; NaN for a group without a sample.

    Example:
        >>> group_means(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 1, 1]), count=2).tolist()
        [1.0, 4.0]
    """
    require_columns(values=values, groups=groups)
    member = groups != NO_GROUP
    codes, own = groups[member], values[member].double()
    sums = torch.bincount(codes, weights=own, minlength=count)
    return sums / torch.bincount(codes, minlength=count)


def group_error_rates(
    labels: Tensor, predicted: Tensor, groups: Tensor, *, classes: int, count: int
) -> tuple[Tensor, Tensor]:
    """False positive and false negative rate of every group.

    Of two classes the second is the positive one. Of more, each is told from the rest, and the mean
    is over the classes that have a rate: for false negatives those that occur in the group, for
    false positives those with a sample of another class. A prediction of -1 is of no class.

    Args:
        labels: True classes, int64, shape [N].
        predicted: Predicted classes, int64, shape [N].
        groups: Code of each sample's group, int64, shape [N]; -1 for none.
        classes: Number of classes C, at least 2.
        count: Number of groups G.

    Returns:
        Two float64 [G] in [0, 1]; lower is better; NaN where a group has no rate.

    Example:
        >>> labels, predicted = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 0, 0])
        >>> rates = group_error_rates(labels, predicted, labels * 0, classes=2, count=1)
        >>> [round(rate.item(), 4) for rate in rates]
        [0.5, 0.6667]

    Reference:
        Hardt et al., Equality of opportunity in supervised learning (2016), equalized odds.
    """
    require_columns(labels=labels, predicted=predicted, groups=groups)
    member = groups != NO_GROUP
    group, label, called = groups[member], labels[member], predicted[member]

    def counted(classes_of: Tensor, which: Tensor) -> Tensor:
        places = group[which] * classes + classes_of[which]
        return torch.bincount(places, minlength=count * classes).view(count, classes)

    positives = counted(label, label >= 0)
    hits = counted(label, label == called)
    negatives = positives.sum(dim=1, keepdim=True) - positives
    rates = (
        (counted(called, called >= 0) - hits) / negatives,
        (positives - hits) / positives,
    )  # 0 / 0 is NaN: no rate
    false_positive, false_negative = (
        rate.double()[:, 1] if classes == 2 else rate.double().nanmean(dim=1) for rate in rates
    )
    return false_positive, false_negative


def spread_permutation(
    of_groups: Callable[[Tensor], Tensor],
    groups: Tensor,
    *,
    draws: int = SHUFFLES,
    generator: np.random.Generator,
) -> Permutation:
    """Highest minus lowest of some number of the groups, against the same with groups shuffled.

    Args:
        of_groups: Codes [N] -> the number of every group [G], NaN where it has none.
        groups: Code of each sample's group, int64, shape [N]; -1 for none.
        draws: Number of permutations.
        generator: Draws them.

    Raises:
        NotApplicable: Fewer than two groups have the number.

    Example:
        >>> groups = torch.arange(40) // 20
        >>> found = spread_permutation(
        ...     lambda codes: group_means(groups, codes, count=2),
        ...     groups,
        ...     generator=np.random.default_rng(0),
        ... )
        >>> found.value, found.p_value < 0.01
        (1.0, True)

    Reference:
        Fisher, The design of experiments (1935).
    """
    values = of_groups(groups).numpy()
    if (have := int((~np.isnan(values)).sum())) < 2:
        raise NotApplicable(f"a comparison needs two groups with samples, got {have}")
    member, codes = (groups != NO_GROUP).nonzero().flatten(), groups.numpy()
    null, shuffled = np.empty(draws), groups.clone()
    for draw in range(draws):
        shuffled[member] = torch.from_numpy(generator.permutation(codes[member]))
        null[draw] = _spread(of_groups(shuffled).numpy())
    return _against(_spread(values), null)


def class_spread(correct: Tensor, labels: Tensor, *, baseline: Tensor) -> ClassSpread:
    """Standard deviation over classes of the change of recall, beside what noise alone gives.

    The noise of a class of n samples with change d is sqrt((NFR + PFR - d^2) / n); the expected
    deviation is the root of its mean square over classes.

    Args:
        correct: Whether the model is right, bool, shape [N].
        labels: True classes, int64, shape [N].
        baseline: Whether the baseline is right, bool, shape [N].

    Raises:
        NotApplicable: Fewer than two classes have a sample.

    Example:
        >>> labels, right = torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
        >>> found = class_spread(torch.tensor([1, 0, 1, 1]).bool(), labels, baseline=right)
        >>> round(found.observed, 4), found.expected  # changes -1/2 and 0; sqrt((1/4/2 + 0) / 2)
        (0.3536, 0.25)

    Reference:
        Hooker et al., Characterising bias in compressed models (2020): harm is uneven by class.
    """
    require_columns(correct=correct, labels=labels, baseline=baseline)
    change = correct.double() - baseline.double()
    counts = torch.bincount(labels)
    present = counts > 0
    if int(present.sum()) < 2:
        raise NotApplicable("a spread over classes needs two classes with samples")
    n = counts[present]
    delta = torch.bincount(labels, change)[present] / n
    discordant = torch.bincount(labels, change.abs())[present] / n
    noise = ((discordant - delta.square()) / n).clamp(min=0.0)
    return ClassSpread(
        observed=delta.std().item(), expected=noise.mean().sqrt().item(), classes=len(n)
    )


def permuted_counts(
    sizes: np.ndarray, totals: np.ndarray, draws: int, generator: np.random.Generator
) -> np.ndarray:
    """How many samples of each kind each group has, when samples are dealt to groups at random.

    Equivalent to shuffling the groups, without touching a sample: each group takes its size from
    what is left of the kinds.

    Args:
        sizes: Samples of each group, int, shape [G].
        totals: Samples of each kind, int, shape [K]; sums to that of `sizes`.
        draws: Number of permutations B.
        generator: Draws them.

    Returns:
        Int64 [B, G, K].

    Example:
        >>> generator = np.random.default_rng(0)
        >>> counts = permuted_counts(np.array([3, 2]), np.array([4, 1]), 5, generator)
        >>> counts.sum(axis=2).tolist() == [[3, 2]] * 5, counts.sum(axis=1).tolist() == [[4, 1]] * 5
        (True, True)
    """
    left = np.repeat(totals[None], draws, axis=0)
    counts = np.zeros((draws, len(sizes), len(totals)), dtype=np.int64)
    for group, size in enumerate(sizes):
        wanted = np.full(draws, size)
        for kind in range(len(totals)):
            others = left[:, kind + 1 :].sum(axis=1)
            taken = generator.hypergeometric(left[:, kind], others, wanted)
            counts[:, group, kind] = taken
            wanted = wanted - taken
        left = left - counts[:, group]
    return counts


def encode(values: Mapping[int, str], sample_ids: Tensor) -> tuple[Tensor, list[str]]:
    """Codes of the samples' groups, and the groups' names, sorted.

    Args:
        values: Sample id -> name of its group; an empty name and a missing id mean none.
        sample_ids: Positions in the split, int64, shape [N].

    Returns:
        Int64 [N] with -1 for none, and the name of each code.

    Example:
        >>> encode({0: "b", 1: "a", 2: ""}, torch.tensor([0, 1, 2, 3]))
        (tensor([ 1,  0, -1, -1]), ['a', 'b'])
    """
    found = [values.get(i, "") for i in sample_ids.tolist()]
    names = sorted(set(found) - {""})
    code_of = {name: code for code, name in enumerate(names)}
    return torch.tensor([code_of.get(name, NO_GROUP) for name in found]), names


def _spread(values: np.ndarray) -> float:
    """Highest minus lowest of those that are there."""
    there = values[~np.isnan(values)]
    return float(np.ptp(there)) if len(there) else 0.0


def _against(value: float, null: np.ndarray) -> Permutation:
    low, high = np.quantile(null, [0.025, 0.975]).tolist()
    as_large = int((null >= value - RELATIVE).sum())
    return Permutation(
        value=value,
        null_mean=float(null.mean()),
        null=Interval(low, high),
        p_value=(1 + as_large) / (1 + len(null)),
    )
