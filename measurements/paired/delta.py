"""The difference of every record-based statistic, on the same samples."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from omegaconf import DictConfig

from core.configuration import plain
from core.estimate import Estimate
from core.names import metric_key
from core.targets import build, resolve
from measurements.definition import definition_of
from measurements.measurement import Measurement, PairedMeasurement, RecordMeasurement, Request
from models.base_model import ClassifierModule


class Delta(PairedMeasurement):
    """Compressed minus baseline for the record measurements of the evaluation.

    Pairing sample by sample takes out what both models find hard: for accuracy the interval is
    about three times tighter than that of two independent samples. Every record measurement has a
    cell of its own, so that one that fails takes no other difference with it.

    Args:
        part: Library entry of the record measurement whose difference this is.

    Reference:
        Miller, Adding error bars to evals (2024), section 4.2; Dietterich (1998).
    """

    version = 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        part: str,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.part = part

    @classmethod
    def split_up(cls, config: DictConfig) -> dict[str, dict[str, Any]]:
        """One cell for every record measurement of the evaluation."""
        return {
            f"delta.{name}": {"part": name}
            for name in config.measurements
            if _is_of_records(config.measurement_library[name])
        }

    def measure(self) -> dict[str, Estimate]:
        """`delta_<name>` for every value of the record measurement, dataset and view."""
        part = self._of_records
        return {
            metric_key(name, part.split, f"delta_{measured}", view): estimate
            for name in part.datamodule_names
            for view in part.views
            for measured, estimate in self._differences(name, view).items()
        }

    def requests(self) -> list[Request]:
        """What the record measurement reads, of both models."""
        return self._of_records.requests()

    def definition(self) -> dict[str, Any]:
        """Changes with the definition of the record measurement."""
        return {**super().definition(), "of": definition_of(self._of_records, self._entry)}

    def _differences(self, name: str, view: str) -> dict[str, Estimate]:
        part = self._of_records
        now = part.records(name, view=view)
        before = part.records_of(self.baseline, name, view=view)
        return part.difference(now, before)

    @property
    def _entry(self) -> Mapping[str, Any]:
        return plain(self.experiment_config.measurement_library[self.part])

    @cached_property
    def _of_records(self) -> RecordMeasurement:
        part = build(
            self._entry,
            expects=RecordMeasurement,
            model=self.model,
            experiment_config=self.experiment_config,
        )
        part.recorder = self.recorder
        return part


def _is_of_records(entry: Mapping[str, Any]) -> bool:
    return issubclass(resolve(entry["_target_"], expects=Measurement), RecordMeasurement)
