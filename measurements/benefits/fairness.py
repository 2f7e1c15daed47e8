"""Accuracy group by group: who is served worst, and by how much?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.fairness import gap_permutation, group_accuracies
from measurements.groups import Grouping, GroupTables
from measurements.measurement import BOOTSTRAP_SEED, Measurement
from models.base_model import ClassifierModule
from recording.records import Records


class GroupFairness(Measurement):
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

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        group_files: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.tables = GroupTables(group_files or {})

    def definition(self) -> dict[str, Any]:
        """Changes with the tables of groups."""
        return {**super().definition(), "tables": self.tables.digests()}

    def measure(self) -> dict[str, Estimate]:
        """For every column of groups; a dataset without any is passed over."""
        results: dict[str, Estimate] = {}
        reason = "no dataset is given"
        for name in self.datamodule_names:
            records = self.records(name)
            try:
                parts = self.tables.groupings(name, self.datamodules[name], self.split, records)
            except NotApplicable as absent:
                reason = str(absent)
                continue
            for grouping in parts:
                for measured, value in self._values(grouping, records):
                    results[metric_key(name, self.split, measured)] = value
        if not results:
            raise NotApplicable(reason)
        return results

    def _values(self, grouping: Grouping, records: Records) -> Iterator[tuple[str, Estimate]]:
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
