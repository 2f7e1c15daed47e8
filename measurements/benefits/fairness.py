"""Accuracy group by group: who is served worst, and by how much?"""

from collections.abc import Iterator

import numpy as np

from core.estimate import Estimate
from measurements.functional.fairness import gap_permutation, group_accuracies
from measurements.grouped import GroupMeasurement
from measurements.groups import Grouping
from measurements.measurement import BOOTSTRAP_SEED
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
