"""Do the features move with the image?"""

from collections.abc import Iterator, Sequence
from math import isfinite

from omegaconf import DictConfig
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.equivariance import EquivarianceError
from measurements.groups import key_parts
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.layers import layer_names, regrouped, watched
from recording.loop import evaluating

IMAGES_AT_ONCE = 16
"""Outputs of all layers of two looks at so many images are in memory together."""

Errors = dict[tuple[str, str], EquivarianceError]
"""Transformation and layer -> what was found."""


class Equivariance(Measurement):
    """Distance of the features of a moved image from the moved features, for every convolution.

    Images are rolled, right and down in a circle, by one place of the layer's feature map, so by
    as many pixels as its stride, and flipped left to right. Layers whose maps do not divide the
    image into whole places, or are too small for the border, are left out and counted, and so are
    those that put out zeros alone, or what is not finite. 0 is exactly equivariant, about 1.4
    unrelated. Zero padding shows at the edges: `border` leaves them out.

    Args:
        samples: Images the model is run on.
        border: Places on each side of a feature map that do not count.

    Reference:
        Lenc & Vedaldi, Understanding image representations by measuring their equivariance and
        equivalence (2015).
    """

    kind = "property"
    needs = frozenset({"images"})
    unit, better, version = "ratio", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 128,
        border: int = 0,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if samples < 1 or border < 0:
            raise ValueError(f"expected samples >= 1 and border >= 0, got {samples} and {border}")
        self.samples, self.border = samples, border

    def measure(self) -> dict[str, Estimate]:
        """`equivariance_error_roll`, `..._flip`: the mean over layers, then each layer."""
        return {
            metric_key(name, self.split, measured): value
            for name in self.datamodule_names
            for measured, value in self._values(name)
        }

    def _values(self, dataset: str) -> Iterator[tuple[str, Estimate]]:
        names = layer_names(self.model, (nn.Conv2d,))
        every = self._errors(dataset, names)
        errors = {key: each for key, each in every.items() if each.length and isfinite(each.value)}
        if not errors:
            raise NotApplicable("no convolution has a feature map that can be moved")
        n = next(iter(errors.values())).samples
        labels = dict(
            zip(names, key_parts(name.removeprefix("backbone.") for name in names), strict=True)
        )
        for kind in ("roll", "flip"):
            found = {layer: each.value for (of, layer), each in errors.items() if of == kind}
            if not found:
                continue
            measured = f"equivariance_error_{kind}"
            yield measured, self.value(sum(found.values()) / len(found), n=n)
            for layer, value in found.items():
                yield f"{measured}_{labels[layer]}", self.value(value, n=n)
        left_out = len(names) - len({layer for _, layer in errors})
        yield "equivariance_layers_left_out", self.value(left_out, n=len(names), unit="layers")

    def _errors(self, dataset: str, names: Sequence[str]) -> Errors:
        given = self.recorder.images(self.model, dataset, self.split, samples=self.samples)
        errors: Errors = {}
        with evaluating(self.model), watched(self.model, names) as outputs:

            def features(images: Tensor) -> dict[str, Tensor]:
                self.model(images)
                return dict(outputs)

            for images in regrouped(given, IMAGES_AT_ONCE):
                before = features(images)
                strides = {name: self._stride(images, maps) for name, maps in before.items()}
                flipped = features(images.flip(3))
                for name in (name for name, stride in strides.items() if stride):
                    moved = before[name].flip(3)
                    self._error(errors, "flip", name).add(flipped[name], moved=moved)
                for stride in {stride for stride in strides.values() if stride}:
                    rolled = features(_rolled(images, stride))
                    for name in (name for name, own in strides.items() if own == stride):
                        moved = _rolled(before[name], 1)
                        self._error(errors, "roll", name).add(rolled[name], moved=moved)
        return errors

    def _error(self, errors: Errors, kind: str, name: str) -> EquivarianceError:
        return errors.setdefault((kind, name), EquivarianceError(border=self.border))

    def _stride(self, images: Tensor, maps: Tensor) -> int:
        """Pixels of a place of the feature maps; 0 where they cannot be moved by whole places."""
        if maps.ndim != 4 or min(maps.shape[2:]) <= max(1, 2 * self.border):
            return 0
        pairs = list(zip(images.shape[2:], maps.shape[2:], strict=True))
        ratios = {pixels // places for pixels, places in pairs}
        whole = len(ratios) == 1 and not any(pixels % places for pixels, places in pairs)
        return ratios.pop() if whole else 0


def _rolled(maps: Tensor, places: int) -> Tensor:
    return maps.roll((places, places), dims=(2, 3))
