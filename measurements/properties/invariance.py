"""Does the answer stay when the image is moved, turned, mirrored, scaled or lit differently?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import CLEAN, Split, metric_key
from measurements.functional.intervals import Interval, bootstrap_means, percentile_interval
from measurements.functional.invariance import Distances, distances, kept
from measurements.measurement import BOOTSTRAP_SEED, Measurement, Request, ends, mean_interval
from measurements.views import TransformViews
from models.base_model import ClassifierModule


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a number belongs to: a view, or the mean over the views of a kind."""

    form: str = "{}"  # of the measured name
    view: str = CLEAN

    def key(self, datamodule: str, split: Split, measured: str, *, prefix: str = "") -> str:
        """Result key."""
        return metric_key(datamodule, split, prefix + self.form.format(measured), self.view)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What was found of one model on one dataset; all models draw the same samples."""

    samples: int
    scores: dict[Place, tuple[float, Tensor]] = field(default_factory=dict)  # value, draws [B]
    kept: dict[Place, Tensor] = field(default_factory=dict)  # share of predictions kept, [n]


class Invariance(Measurement):
    """How much of the answer survives transformations of a known size.

    `invariance` is 1 where nothing changes and 0 where the logits change as much as from one image
    to another; `consistency` is the share of predictions that stay. A model that always says the
    same is consistent: read both next to the accuracy.

    The logits are the recorded ones, in half precision less the row's largest: an answer that does
    not change is exactly 1 all the same; scores of the digits move by less than 0.00002.
    Intervals of the ratio leave out that two distances can share an image; in simulations they held
    the truth in 92 to 98 % of the runs.

    Args:
        magnitudes: Kind of transformation -> magnitudes; an empty list leaves a kind out.

    Reference:
        Kvinge et al., In what ways are deep neural networks invariant and how should we measure
        this? (2022); Zhang, Making convolutional networks shift-invariant again (2019), for the
        consistency.
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        magnitudes: Mapping[str, Sequence[int]],
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.transforms = TransformViews(magnitudes=magnitudes)

    def requests(self) -> list[Request]:
        """Clean records and those of every view, of the datasets that have them."""
        return [
            Request(datamodule=name, split=self.split, view=view, parts=self.parts)
            for name in self.transforms.having(self.datamodules)
            for view in (CLEAN, *self.transforms.names)
        ]

    def measure(self) -> dict[str, Estimate]:
        """Both numbers of every view, and `mean_..._<kind>` over the views of every kind."""
        results: dict[str, Estimate] = {}
        for name in self.datasets():
            found = self.curves(name, self.model)
            fields = {"n": found.samples}
            for place, (value, draws) in found.scores.items():
                results[place.key(name, self.split, "invariance")] = self.value(
                    value, view=place.view, **fields, **ends(drawn_interval(draws))
                )
            for place, same in found.kept.items():
                results[place.key(name, self.split, "consistency")] = self.value(
                    same.double().mean().item(),
                    view=place.view,
                    **fields,
                    **ends(mean_interval(same)),
                )
        return results

    def datasets(self) -> list[str]:
        """Those that have all the views.

        Raises:
            NotApplicable: There is none.
        """
        names = self.transforms.having(self.datamodules)
        if not names:
            raise NotApplicable(self.transforms.absent)
        return names

    def curves(self, name: str, model: ClassifierModule) -> Curves:
        """Scores and kept predictions for every view and kind."""
        clean = self.records_of(model, name)
        if len(clean) < 2:
            raise NotApplicable("one sample alone: there is no other image to compare with")
        found = Curves(samples=len(clean))
        for kind, views in self.transforms.by_kind.items():
            seen = [self.records_of(model, name, view=view) for view in views]
            scores = [_score(distances(clean.logits, transformed=each.logits)) for each in seen]
            same = [kept(clean.predicted, transformed=each.predicted) for each in seen]
            places = [Place(view=view) for view in views]
            found.scores.update(zip(places, scores, strict=True))
            found.kept.update(zip(places, same, strict=True))
            mean = Place(form=f"mean_{{}}_{kind}")
            found.scores[mean] = _mean(scores)
            found.kept[mean] = torch.stack(same).double().mean(dim=0)
        return found


def drawn_interval(draws: Tensor) -> Interval | None:
    """95 % interval; None where some resample is of samples that are all answered alike."""
    return percentile_interval(draws) if draws.isfinite().all() else None


def _score(found: Distances) -> tuple[float, Tensor]:
    moved, apart = (
        bootstrap_means(values, generator=torch.Generator().manual_seed(BOOTSTRAP_SEED))
        for values in (found.moved, found.apart)
    )
    return found.invariance, 1 - moved / apart


def _mean(scores: Sequence[tuple[float, Tensor]]) -> tuple[float, Tensor]:
    values, draws = zip(*scores, strict=True)
    return sum(values) / len(values), torch.stack(draws).mean(dim=0)
