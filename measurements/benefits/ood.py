"""Does the model know which images it was not made for?"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import ConfigError, NotApplicable, unknown
from core.estimate import Better, Estimate
from core.names import CLEAN, metric_key
from measurements.functional.intervals import DRAWS, percentile_interval
from measurements.functional.ood import detection, detection_draws
from measurements.measurement import BOOTSTRAP_SEED, Measurement, Request, ends
from models.base_model import ClassifierModule
from recording.loop import threads_set
from recording.records import Records

SCORES: Mapping[str, Callable[[Records], Tensor]] = {
    "msp": lambda records: records.margin_logit,
    "energy": lambda records: records.logsumexp,
    "max_logit": lambda records: records.max_logit,
    "entropy": lambda records: -records.entropy,
}
"""Higher = more in-distribution. The margin orders as the largest probability does, without ties
where that has rounded to 1."""

BETTER: Mapping[str, Better] = {
    "auroc": "higher",
    "fpr95": "lower",
    "aupr_in": "higher",
    "aupr_out": "higher",
}

Found = dict[str, tuple[float, Tensor]]
"""Name -> value and its bootstrap draws [B]."""


def place(foreign: str) -> tuple[str, str]:
    """Dataset and view of a foreign set.

    Example:
        >>> place("dummy"), place("digits/rotate_90")
        (('dummy', 'clean'), ('digits', 'rotate_90'))
    """
    name, _, view = foreign.partition("/")
    return name, view or CLEAN


class OutOfDistribution(Measurement):
    """How well four scores tell a dataset from near and far sets of foreign images.

    Labels of the foreign sets are not looked at. `near` and `far` are the means over their sets.

    Args:
        near: Datasets that resemble the model's own: other classes of the same kind of picture.
        far: Datasets that do not: textures, noise, house numbers. A view is written after a slash:
            `digits/rotate_90`.
        draws: Resamples of both sets for the intervals.

    Reference:
        Hendrycks & Gimpel (2017), maximum softmax probability; Liu et al., Energy-based
        out-of-distribution detection (2020); Hendrycks et al. (2022), maximum logit; near and far
        as in Yang et al., OpenOOD (2022).
    """

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        near: Sequence[str] = (),
        far: Sequence[str] = (),
        draws: int = DRAWS,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.near, self.far, self.draws = list(near), list(far), draws
        library = experiment_config.dataset_library if self.foreign else {}
        names = {place(foreign)[0] for foreign in self.foreign}
        if absent := sorted(name for name in names if name not in library):
            raise ConfigError([unknown("dataset", name, map(str, library)) for name in absent])

    @property
    def foreign(self) -> list[str]:
        """All foreign sets, each once."""
        return list(dict.fromkeys([*self.near, *self.far]))

    def requests(self) -> list[Request]:
        """Records of the own and of the foreign sets."""
        if not self.foreign:
            return []
        places = dict.fromkeys(map(place, [*self.datamodule_names, *self.foreign]))
        return [Request(datamodule=name, split=self.split, view=view) for name, view in places]

    def measure(self) -> dict[str, Estimate]:
        """AUROC, FPR at 95 % TPR and average precision for every score and foreign set."""
        self.require_foreign()
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            own = self.records(name)
            found = self.found(own, self.foreign_records())
            for measured, (value, draws) in found.items():
                better = BETTER[self.quantity(measured)]
                results[metric_key(name, self.split, measured)] = self.value(
                    value, n=len(own), better=better, **ends(percentile_interval(draws))
                )
        return results

    def foreign_records(self) -> dict[str, Records]:
        """What the model said about each foreign set."""
        return {
            foreign: self.records(name, view=view)
            for foreign, (name, view) in zip(self.foreign, map(place, self.foreign), strict=True)
        }

    def require_foreign(self) -> None:
        """Refuse to measure nothing."""
        if not self.foreign:
            raise NotApplicable("no foreign datasets are named; set near or far of this entry")

    def found(self, own: Records, foreign: Mapping[str, Records]) -> Found:
        """Every number with its draws; the same ids are drawn for every model and score."""
        results: Found = {}
        for score in SCORES:
            of_set = {other: self._detect(score, own, foreign[other]) for other in self.foreign}
            for quantity in BETTER:
                pairs = {other: one[quantity] for other, one in of_set.items()}
                results |= {
                    f"ood_{quantity}_{score}_{label.replace('/', '_')}": pair
                    for label, pair in [*pairs.items(), *self._means(pairs)]
                }
        return results

    @staticmethod
    def quantity(measured: str) -> str:
        """Which of `BETTER` a name of `found` is about."""
        return next(name for name in BETTER if measured.startswith(f"ood_{name}_"))

    def _means(
        self, pairs: Mapping[str, tuple[float, Tensor]]
    ) -> Iterator[tuple[str, tuple[float, Tensor]]]:
        for label, names in (("near", self.near), ("far", self.far)):
            if names:
                values = [pairs[name][0] for name in names]
                draws = torch.stack([pairs[name][1] for name in names])
                yield label, (sum(values) / len(values), draws.mean(dim=0))

    def _detect(self, score: str, own: Records, foreign: Records) -> Found:
        scores = SCORES[score](own), SCORES[score](foreign)
        value = detection(*scores)
        generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
        with threads_set(1):
            draws = detection_draws(*scores, draws=self.draws, generator=generator)
        return {name: (getattr(value, name), draws[name]) for name in draws}
