"""What measurements of corrupted images have in common: which views, of which datasets."""

from collections.abc import Sequence

from omegaconf import DictConfig

from core.errors import NotApplicable
from core.names import CLEAN
from measurements.functional.corruption import ALEXNET_ERRORS
from measurements.measurement import Measurement, Request
from measurements.views import CorruptionViews
from models.base_model import ClassifierModule

SEVERITIES = (1, 2, 3, 4, 5)


class CorruptedMeasurement(Measurement):
    """A measurement of the views `<corruption>_<severity>` beside the clean one.

    Args:
        corruptions: Names of the views without their severity.
        severities: Which of the views `<corruption>_<severity>` are looked at.
    """

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        corruptions: Sequence[str] = tuple(ALEXNET_ERRORS),
        severities: Sequence[int] = SEVERITIES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.corrupted = CorruptionViews(corruptions=corruptions, severities=severities)

    def requests(self) -> list[Request]:
        """Clean records and those of every view, of the datasets that have them."""
        return [
            Request(datamodule=name, split=self.split, view=view)
            for name in self.corrupted.having(self.datamodules)
            for view in (CLEAN, *self.corrupted.names)
        ]

    def require_corrupted(self) -> list[str]:
        """Datasets that have all the views.

        Raises:
            NotApplicable: There is none.
        """
        names = self.corrupted.having(self.datamodules)
        if not names:
            raise NotApplicable(self.corrupted.absent)
        return names
