"""Units that stay silent, and how many activations are zero."""

from collections.abc import Iterator, Sequence

from omegaconf import DictConfig
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.activation import UnitActivity
from measurements.groups import key_parts
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.layers import layer_names, regrouped, watched
from recording.loop import evaluating

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardswish)
"""Activations that are 0 for a range of inputs: a silent unit can be told from a quiet one."""

IMAGES_AT_ONCE = 16
"""All activations of so many images are in memory together; no value depends on it."""


class Activations(Measurement):
    """Share of units that are zero for all images, and share of zeros, by layer and over all units.

    Looks at what activation modules put out; functions that are no modules cannot be seen, and a
    module used twice is seen at its last use. A unit is a channel of a map [B, K, H, W], a feature
    of a token [B, T, D]. Shares over layers weigh every unit alike. Dead holds for these images:
    more images find fewer, so compare models on the same number. For activations with a ceiling,
    `saturated_units` are those at the ceiling for all images.

    Args:
        samples: Images the model is run on.

    Reference:
        Lu et al., Dying ReLU and initialization (2019), dead units; Hu et al., Network trimming
        (2016), average percentage of zeros.
    """

    kind = "property"
    needs = frozenset({"images"})
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 512,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if samples < 1:
            raise ValueError(f"samples is a number of images, at least 1, got {samples}")
        self.samples = samples

    def measure(self) -> dict[str, Estimate]:
        """`dead_units`, `activation_sparsity` and, with a ceiling, `saturated_units`."""
        return {
            metric_key(name, self.split, measured): value
            for name in self.datamodule_names
            for measured, value in self._values(self._activity(name))
        }

    def _activity(self, dataset: str) -> dict[str, UnitActivity]:
        """What was counted in each layer, by its name in the model."""
        names = layer_names(self.model, RECTIFIERS)
        given = self.recorder.images(self.model, dataset, self.split, samples=self.samples)
        found: dict[str, UnitActivity] = {}
        with evaluating(self.model), watched(self.model, names) as outputs:
            for images in regrouped(given, IMAGES_AT_ONCE):
                self.model(images)
                for name, output in outputs.items():
                    fresh = counter(self.model.get_submodule(name), output)
                    found.setdefault(name, fresh).add(output)
        if not found:
            raise NotApplicable(
                "the model runs no module whose output can be exactly zero, such as ReLU; "
                "activations that are plain functions cannot be seen"
            )
        return found

    def _values(self, found: dict[str, UnitActivity]) -> Iterator[tuple[str, Estimate]]:
        n = next(iter(found.values())).inputs
        labels = key_parts(name.removeprefix("backbone.") for name in found)
        yield "dead_units", self.value(_over_units(found, "dead_share"), n=n)
        yield "activation_sparsity", self.value(_over_units(found, "sparsity"), n=n, better="")
        bounded = {name: each for name, each in found.items() if each.ceiling is not None}
        if bounded:
            yield "saturated_units", self.value(_over_units(bounded, "saturated_share"), n=n)
        for label, activity in zip(labels, found.values(), strict=True):
            yield f"dead_units_{label}", self.value(activity.dead_share, n=n)
            yield f"activation_sparsity_{label}", self.value(activity.sparsity, n=n, better="")


def counter(activation: nn.Module, output: Tensor) -> UnitActivity:
    """An empty count of an activation's units: channels of maps, features of tokens."""
    ceiling = getattr(activation, "max_val", None)
    return UnitActivity(unit_dim=-1 if output.ndim == 3 else 1, ceiling=ceiling)


def _over_units(found: dict[str, UnitActivity], share: str) -> float:
    """Mean over the units of all layers of a share that each layer gives for its own."""
    units = [len(activity.dead) for activity in found.values()]
    shares = [getattr(activity, share) for activity in found.values()]
    return sum(k * s for k, s in zip(units, shares, strict=True)) / sum(units)
