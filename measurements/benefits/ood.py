"""Does the model know which images it was not made for?"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import ConfigError, NotApplicable
from core.estimate import Better, Estimate
from core.names import metric_key
from measurements.foreign import ForeignSets, Named, place
from measurements.functional.intervals import DRAWS, percentile_interval
from measurements.functional.ood import detection, detection_draws
from measurements.measurement import BOOTSTRAP_SEED, Kind, Measurement, Request, ends
from models.base_model import ClassifierModule
from recording.loop import threads_set
from recording.records import Records

log = logging.getLogger(__name__)

Score = Callable[[Records], Tensor]
"""One number a sample, [n]; higher = more in-distribution."""

SCORES: Mapping[str, Score] = {
    "msp": lambda records: records.margin_logit,
    "energy": lambda records: records.logsumexp,
    "max_logit": lambda records: records.max_logit,
    "entropy": lambda records: -records.entropy,
}
"""The margin orders as the largest probability does, without ties where that has rounded to 1."""

BETTER: Mapping[str, Better] = {
    "auroc": "higher",
    "fpr95": "lower",
    "aupr_in": "higher",
    "aupr_out": "higher",
}


@dataclass(frozen=True, kw_only=True)
class Detected:
    """One number of a detection."""

    value: float
    draws: Tensor  # [B], by bootstrap
    n: int  # own and foreign samples


Found = dict[str, Detected]
"""Name -> number."""


class OutOfDistribution(Measurement):
    """How well four scores tell a dataset from near and far sets of foreign images.

    The model answers for foreign images among the classes of the dataset they are foreign to; their
    own labels are not looked at. `near` and `far` are the means over their sets. Sets that are
    known but not on disk are left out with a warning, and the mean of their kind with them; what is
    stated has to be there. The n of a number is that of the own images and of all foreign ones
    behind it.

    Args:
        near: Foreign sets that resemble the model's own images: other classes of the same kind of
            picture. None takes those that are known of each dataset.
        far: Those that do not: textures, noise, house numbers. A view is written after a slash:
            `digits/rotate_90`.
        known: Dataset -> `near` and `far` -> its foreign sets.
        draws: Resamples of both sets for the intervals.

    Reference:
        Hendrycks & Gimpel (2017), maximum softmax probability; Liu et al., Energy-based
        out-of-distribution detection (2020); Hendrycks et al. (2022), maximum logit; near and far
        as in Yang et al., OpenOOD (2022).
    """

    kind: ClassVar[Kind] = "benefit"
    unit, better, version = "fraction", "higher", 3

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        near: Sequence[str] | None = None,
        far: Sequence[str] | None = None,
        known: Named | None = None,
        draws: int = DRAWS,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self._named, self.draws = ForeignSets(near=near, far=far, known=known), draws
        if strange := self._named.unknown([*experiment_config.dataset_library]):
            raise ConfigError(strange)

    @cached_property
    def foreign(self) -> ForeignSets:
        """Foreign sets that are there."""
        return self._named.without(
            lambda name: not self.recorder.datamodule(name, self.model).faults(self.split)
        )

    @property
    def with_foreign(self) -> list[str]:
        """Datasets that foreign sets are named for."""
        return [name for name in self.datamodule_names if self.foreign.of(name)]

    def requests(self) -> list[Request]:
        """Records of the own and of the foreign sets."""
        return [
            Request(
                datamodule=datamodule,
                split=self.split,
                view=view,
                parts=self.parts,
                classes_of=name,
            )
            for name in self.with_foreign
            for datamodule, view in map(place, [name, *self.foreign.of(name)])
        ]

    def scores(self, model: ClassifierModule, name: str) -> Mapping[str, Score]:
        """Scores of what a model said, asked for the classes of a dataset."""
        return SCORES

    def measure(self) -> dict[str, Estimate]:
        """AUROC, FPR at 95 % TPR and average precision for every score and foreign set."""
        return {
            metric_key(name, self.split, measured): self.estimate(measured, value)
            for name in self.require_foreign()
            for measured, value in self.found(self.model, name).items()
        }

    def require_foreign(self) -> list[str]:
        """Datasets with foreign sets.

        Raises:
            NotApplicable: There is none.
        """
        missing = sorted(
            {one for name in self.datamodule_names for one in self.foreign.missing(name)}
        )
        if not self.with_foreign:
            names = ", ".join(self.datamodule_names)
            why = f"{', '.join(missing)} are not on disk" if missing else "no others are named"
            raise NotApplicable(
                f"no foreign images for {names}: {why}; set near, far or known of this entry"
            )
        if missing:
            log.warning("foreign images that are not on disk are left out: %s", ", ".join(missing))
        return self.with_foreign

    def found(self, model: ClassifierModule, name: str) -> Found:
        """Every number with its draws; the same ids are drawn for every model and score."""
        own = self.records_of(model, name)
        foreign = {
            other: self.records_of(model, datamodule, view=view, classes_of=name)
            for other, (datamodule, view) in zip(
                self.foreign.of(name), map(place, self.foreign.of(name)), strict=True
            )
        }
        results: Found = {}
        for title, score in self.scores(model, name).items():
            values = score(own)
            of_set = {other: self._detect(values, score(of)) for other, of in foreign.items()}
            for quantity in BETTER:
                pairs = {other: one[quantity] for other, one in of_set.items()}
                results |= {
                    f"ood_{quantity}_{title}_{label.replace('/', '_')}": pair
                    for label, pair in [*pairs.items(), *self._means(name, pairs, len(own))]
                }
        return results

    def estimate(self, measured: str, found: Detected) -> Estimate:
        """A number of `found`, or a difference of two, with its interval and its direction."""
        quantity = next(one for one in BETTER if measured.startswith(f"ood_{one}_"))
        return self.value(
            found.value,
            n=found.n,
            better=BETTER[quantity],
            **ends(percentile_interval(found.draws)),
        )

    def _means(
        self, name: str, found: Mapping[str, Detected], own: int
    ) -> Iterator[tuple[str, Detected]]:
        for kind, sets in self.foreign.whole_kinds(name).items():
            each = [found[foreign] for foreign in sets]
            yield (
                kind,
                Detected(
                    value=sum(one.value for one in each) / len(each),
                    draws=torch.stack([one.draws for one in each]).mean(dim=0),
                    n=own + sum(one.n - own for one in each),
                ),
            )

    def _detect(self, own: Tensor, foreign: Tensor) -> Found:
        value = detection(own, foreign)
        generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
        with threads_set(1):
            draws = detection_draws(own, foreign, draws=self.draws, generator=generator)
        n = len(own) + len(foreign)
        return {
            name: Detected(value=getattr(value, name), draws=draws[name], n=n) for name in draws
        }
