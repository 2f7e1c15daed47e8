"""Whom does compression harm: does the gap between groups widen, are classes hit unevenly?"""

from collections.abc import Iterator

import numpy as np

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.fairness import (
    class_spread,
    disparity_amplification,
    group_accuracies,
)
from measurements.functional.intervals import paired_difference
from measurements.grouped import GroupMeasurement
from measurements.groups import Grouping
from measurements.measurement import BOOTSTRAP_SEED, PairedMeasurement, bounded, ends
from recording.records import Records


class DisparityAmplification(PairedMeasurement, GroupMeasurement):
    """Change of the gap between the best and the worst group, tested by shuffling the groups.

    Args:
        group_files: Dataset -> CSV file of groups, where the dataset itself has none.

    Reference:
        Hooker et al., Characterising bias in compressed models (2020); Tran et al., Pruning has a
        disparate impact on model accuracy (2022).
    """

    unit, better, version = "fraction", "lower", 1

    def seen(self, name: str) -> tuple[Records, ...]:
        """What both models said."""
        return self.pair(name)

    def of_groups(self, grouping: Grouping, *seen: Records) -> Iterator[tuple[str, Estimate]]:
        """Change of every group, then of the gap between them."""
        now, before = seen
        column, codes = grouping.column, grouping.codes
        yield from self._changes(grouping, now, before)
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        found = disparity_amplification(
            now.correct, codes, baseline=before.correct, generator=generator
        )
        groups, first = (group_accuracies(one.correct, codes) for one in (now, before))
        change = groups.accuracies - first.accuracies
        n = int(groups.sizes.sum())
        overall = (groups.hits.sum() - first.hits.sum()).item() / n
        worst = change.min().item()
        yield f"disparity_amplification_{column}", self.value(found.value, n=n)
        null = self.value(found.null_mean, n=n, low=found.null.low, high=found.null.high, better="")
        yield f"disparity_amplification_null_{column}", null
        p_value = self.value(found.p_value, n=n, unit="p", better="")
        yield f"disparity_amplification_p_{column}", p_value
        yield f"worst_group_delta_{column}", self.value(worst, n=n, better="higher")
        excess = self.value(worst - overall, n=n, better="higher")
        yield f"worst_group_delta_excess_{column}", excess

    def _changes(
        self, grouping: Grouping, now: Records, before: Records
    ) -> Iterator[tuple[str, Estimate]]:
        """Change of each group's accuracy, paired within the group."""
        change = now.correct.double() - before.correct.double()
        for code, name in enumerate(grouping.names):
            found = paired_difference(change[grouping.codes == code])
            yield (
                f"delta_group_accuracy_{grouping.column}_{name}",
                self.value(
                    found.mean,
                    n=int((grouping.codes == code).sum()),
                    better="higher",
                    **ends(bounded(found.interval)),
                ),
            )


class ClassSpread(PairedMeasurement):
    """How much the change of recall differs from class to class, beside what noise alone gives.

    Reference:
        Hooker et al., Characterising bias in compressed models (2020).
    """

    unit, better, version = "fraction", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Standard deviation, what is expected of it, and their ratio where there is noise."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            found = class_spread(now.correct, now.label, baseline=before.correct)
            values = {
                "class_delta_sd": self.value(found.observed, n=found.classes),
                "class_delta_sd_expected": self.value(found.expected, n=found.classes, better=""),
            }
            if found.ratio is not None:
                values["class_delta_sd_ratio"] = self.value(found.ratio, n=found.classes, unit="")
            results |= {metric_key(name, self.split, key): value for key, value in values.items()}
        return results
