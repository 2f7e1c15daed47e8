"""Accuracy, calibration and errors group by group: who is served worst, and by how much?"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from torch import Tensor

from core.estimate import Estimate
from measurements.functional.fairness import (
    gap_permutation,
    group_accuracies,
    group_error_rates,
    group_means,
    spread_permutation,
)
from measurements.grouped import GroupMeasurement
from measurements.groups import Grouping
from measurements.measurement import BOOTSTRAP_SEED, ends, mean_interval
from recording.records import Records


class GroupFairness(GroupMeasurement):
    """Accuracy of every group, the worst of them, and how far the groups lie apart.

    Highest minus lowest is positive even for groups that do not matter: it is shown beside its mean
    over permutations of the groups, with the p-value of that test.

    Args:
        group_files: Dataset -> CSV file of groups, where the dataset itself has none.

    Reference:
        Sagawa et al., Distributionally robust neural networks (2020), worst-group accuracy.
    """

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def seen(self, name: str) -> tuple[Records, ...]:
        """What the model said."""
        return (self.records(name),)

    def of_groups(self, grouping: Grouping, *seen: Records) -> Iterator[tuple[str, Estimate]]:
        """Accuracy of every group, then what is said about all of them."""
        (records,) = seen
        column = grouping.column
        found = group_accuracies(records.correct, grouping.codes)
        for code, hits, n, (low, high) in zip(
            found.codes.tolist(),
            found.hits.tolist(),
            found.sizes.tolist(),
            found.intervals,
            strict=True,
        ):
            name = f"group_accuracy_{column}_{grouping.names[code]}"
            yield name, self.value(hits / n, n=n, low=low, high=high)
        n = int(found.sizes.sum())
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        tested = gap_permutation(records.correct, grouping.codes, generator=generator)
        yield f"worst_group_accuracy_{column}", self.value(found.worst, n=n)
        yield f"group_gap_{column}", self.value(found.gap, n=n, better="lower")
        yield f"group_gap_null_{column}", self.value(tested.null_mean, n=n, better="")
        yield f"group_gap_p_{column}", self.value(tested.p_value, n=n, unit="p", better="")
        yield f"group_ratio_{column}", self.value(found.ratio, n=n, unit="")
        yield (
            f"smallest_group_{column}",
            self.value(found.smallest, n=n, unit="samples", better=""),
        )


class SpreadMeasurement(GroupMeasurement):
    """A number of every group, and how far the groups lie apart beside what chance gives."""

    kind = "benefit"

    def seen(self, name: str) -> tuple[Records, ...]:
        """What the model said."""
        return (self.records(name),)

    def spread(
        self, stem: str, grouping: Grouping, of_groups: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[str, Estimate]]:
        """Highest minus lowest, its mean over permutations of the groups, and the p-value."""
        n = int((grouping.codes >= 0).sum())
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        tested = spread_permutation(of_groups, grouping.codes, generator=generator)
        name = f"{stem}_spread"
        yield f"{name}_{grouping.column}", self.value(tested.value, n=n, better="lower")
        yield f"{name}_null_{grouping.column}", self.value(tested.null_mean, n=n, better="")
        yield f"{name}_p_{grouping.column}", self.value(tested.p_value, n=n, unit="p", better="")


class GroupCalibration(SpreadMeasurement):
    """Mean confidence minus accuracy of every group: who is promised more than is kept?

    Positive for a group of which the model is overconfident. A model can be calibrated over all
    samples and overconfident of one group.

    Args:
        group_files: Dataset -> CSV file of groups, where the dataset itself has none.

    Reference:
        Pleiss et al., On fairness and calibration (2017).
    """

    unit, better, version = "fraction", "", 1

    def of_groups(self, grouping: Grouping, *seen: Records) -> Iterator[tuple[str, Estimate]]:
        """`group_confidence_gap_<column>_<group>`, and how far they lie apart."""
        (records,) = seen
        stem, count = "group_confidence_gap", len(grouping.names)
        gaps = records.confidence.double() - records.correct.double()
        for code, name in enumerate(grouping.names):
            own = gaps[grouping.codes == code]
            value = self.value(own.mean().item(), n=len(own), **ends(mean_interval(own)))
            yield f"{stem}_{grouping.column}_{name}", value
        yield from self.spread(stem, grouping, lambda codes: group_means(gaps, codes, count=count))


class GroupErrorRates(SpreadMeasurement):
    """False positive and false negative rate of every group, and how far the groups lie apart.

    Of two classes the second is the positive one; of more, the mean over the classes, each told
    from the rest. A group without a sample that could be such an error has no such rate.

    Args:
        group_files: Dataset -> CSV file of groups, where the dataset itself has none.

    Reference:
        Hardt et al., Equality of opportunity in supervised learning (2016), equalized odds.
    """

    unit, better, version = "fraction", "lower", 1

    def of_groups(self, grouping: Grouping, *seen: Records) -> Iterator[tuple[str, Estimate]]:
        """`group_fpr_<column>_<group>` and `group_fnr_...`, and how far they lie apart."""
        (records,) = seen
        count = len(grouping.names)
        for stem, place in (("group_fpr", 0), ("group_fnr", 1)):
            rate = partial(_error_rate, records, place, count)
            found = rate(grouping.codes)
            for code in (~found.isnan()).nonzero().flatten().tolist():
                n = int((grouping.codes == code).sum())
                key = f"{stem}_{grouping.column}_{grouping.names[code]}"
                yield key, self.value(found[code].item(), n=n)
            if count - int(found.isnan().sum()) > 1:
                yield from self.spread(stem, grouping, rate)


def _error_rate(records: Records, place: int, count: int, codes: Tensor) -> Tensor:
    """False positive (place 0) or false negative rate (place 1) of every group."""
    return group_error_rates(
        records.label, records.predicted, codes, classes=records.classes, count=count
    )[place]
