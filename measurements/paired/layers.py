"""Two models on the same images, layer by layer."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.groups import key_parts
from measurements.measurement import PairedMeasurement
from models.base_model import ClassifierModule
from recording.layers import copied, layer_names, regrouped, watched
from recording.loop import device_of, evaluating

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
"""Kinds of layers of the baseline that are compared."""

Outputs = dict[str, Tensor]
"""Name of a layer -> what is kept of its output."""


class LayerComparison(PairedMeasurement):
    """Runs both models on the same images and looks at the layers of the same name.

    Layers are the convolutions and linear layers of the baseline; the compressed model may have
    anything in their place. One that is gone, or whose output cannot be compared, is left out and
    counted. Where normalisation was folded into a layer, its output is another quantity, and the
    comparison shows that. Images for which a logit is not finite do not take part. Models that
    want images of different sizes look at different pictures and are not compared.

    Args:
        samples: Images both models are run on.
        images_at_once: Images of one forward.
    """

    needs = frozenset({"images"})

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int,
        images_at_once: int,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if samples < images_at_once:
            raise ValueError(f"samples is at least {images_at_once} images, got {samples}")
        self.samples, self.images_at_once = samples, images_at_once

    @abstractmethod
    def of(self, dataset: str) -> dict[str, Estimate]:
        """Name -> value for one dataset."""

    def measure(self) -> dict[str, Estimate]:
        """Every layer by its name, then what they come to."""
        return {
            metric_key(name, self.split, measured): value
            for name in self.datamodule_names
            for measured, value in self.of(name).items()
        }

    def layers(self) -> dict[str, str]:
        """Name in the baseline -> part of a result key, of every layer that is to be compared.

        Raises:
            NotApplicable: One of the models shows no layers, or the baseline has none of the kinds.
        """
        layer_names(self.model, WEIGHTED)  # refuses what shows none
        names = layer_names(self.baseline, WEIGHTED)
        if not names:
            raise NotApplicable("the baseline has no convolution and no linear layer")
        labels = key_parts(name.removeprefix("backbone.") for name in names)
        return dict(zip(names, labels, strict=True))

    def outputs(self, dataset: str) -> Iterator[tuple[int, list[tuple[str, Tensor, Tensor]]]]:
        """Number of images, and name, output of the baseline and of the model for each layer."""
        self._require_one_size()
        there = dict(self.model.named_modules(remove_duplicate=False))
        names = [name for name in self.layers() if name in there]
        models = [self.baseline, self.model]
        given = self.recorder.images(self.model, dataset, self.split, samples=self.samples)
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(evaluating(model))
            before, now = (
                stack.enter_context(watched(model, names, keep=self.keep)) for model in models
            )
            for images in regrouped(given, self.images_at_once):
                count = run_on_finite(models, images)
                both = [name for name in names if name in before and name in now]
                yield count, [(name, before[name], now[name]) for name in both if count]

    def _require_one_size(self) -> None:
        now, before = (model.preprocessing.size for model in (self.model, self.baseline))
        if now != before:
            raise NotApplicable(
                f"the model wants images of size {now}, its baseline of size {before}: "
                "their layers do not see the same pictures"
            )

    def keep(self, name: str, output: Tensor) -> Tensor:
        """What is kept of an output."""
        return copied(name, output)

    def count_left_out(self, compared: int) -> Estimate:
        """How many layers of the baseline had nothing to be compared with."""
        if not compared:
            raise NotApplicable("no layer of the two models can be compared")
        return self.value(len(self.layers()) - compared, unit="layers", better="")


def run_on_finite(models: Sequence[ClassifierModule], images: Tensor) -> int:
    """Run the models on the images for which all of them give finite logits; how many these are."""
    logits = [model(images.to(device_of(model))).cpu() for model in models]
    finite = torch.stack([each.isfinite().all(dim=1) for each in logits]).all(dim=0)
    count = int(finite.sum())
    if 0 < count < len(images):
        return run_on_finite(models, images[finite.to(images.device)])
    return count
