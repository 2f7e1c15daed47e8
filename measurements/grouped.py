"""What measurements of groups of samples have in common: whose groups, and which records."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.groups import Grouping, GroupTables
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.records import Records


class GroupMeasurement(Measurement):
    """A measurement of every column of groups a dataset has, or a table gives it.

    Args:
        group_files: Dataset -> CSV file of groups, where the dataset itself has none.
    """

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

    @abstractmethod
    def seen(self, name: str) -> tuple[Records, ...]:
        """Records of a dataset that `of_groups` is about; all of the same samples."""

    @abstractmethod
    def of_groups(self, grouping: Grouping, *seen: Records) -> Iterator[tuple[str, Estimate]]:
        """Name and value of every number of one column of groups."""

    def definition(self) -> dict[str, Any]:
        """Changes with the tables of groups."""
        return {**super().definition(), "tables": self.tables.digests()}

    def measure(self) -> dict[str, Estimate]:
        """For every column of groups; a dataset without any is passed over."""
        results: dict[str, Estimate] = {}
        reason = "no dataset is given"
        for name in self.datamodule_names:
            seen = self.seen(name)
            try:
                parts = self.tables.groupings(name, self.datamodules[name], self.split, seen[0])
            except NotApplicable as absent:
                reason = str(absent)
                continue
            for grouping in parts:
                for measured, value in self.of_groups(grouping, *seen):
                    results[metric_key(name, self.split, measured)] = value
        if not results:
            raise NotApplicable(reason)
        return results
