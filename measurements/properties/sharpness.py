"""How flat the loss is around the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import Split, metric_key
from measurements.functional.sharpness import (
    Loss,
    Scale,
    hessian_trace,
    largest_eigenvalue,
    worst_rise,
)
from measurements.measurement import Measurement, ends
from models.base_model import ClassifierModule
from recording.loop import evaluating

SEED = 0


class Sharpness(Measurement):
    """Rise of the loss within a ball around the weights, and curvature of the loss at them.

    The loss is the mean cross-entropy in nats over one batch, a fixed random subset of the train
    split (of the test split where there is no other); the model is in eval mode, so BatchNorm
    uses its running statistics. Lengths are relative to the norms of the filters: a radius of 0.05
    moves the weights by 5 % of one filter in all. A rescaling of single channels that
    leaves the function as it is still changes every number, so that sharpness compares models of
    one architecture only. Weights that are zero are moved like all others of their filter.

    Args:
        samples: Images of the batch.
        radius: Of the ball.
        steps: Of the ascent within it.
        scale: `filter`, or `absolute` for lengths in units of the weights.
        iterations: Most products with the Hessian in the search for its largest eigenvalue.
        draws: Random vectors behind the trace.

    Reference:
        Foret et al., Sharpness-aware minimization (2021); Keskar et al., On large-batch training
        (2017); filters as in Li et al., Visualizing the loss landscape (2018); Dinh et al., Sharp
        minima can generalize for deep nets (2017), on what it does not survive.
    """

    kind = "property"
    needs = frozenset({"images", "gradients"})
    unit, better, version = "nats", "lower", 2

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 32,
        radius: float = 0.05,
        steps: int = 10,
        scale: Scale = "filter",
        iterations: int = 50,
        draws: int = 20,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.samples, self.radius, self.steps, self.scale = samples, radius, steps, scale
        self.iterations, self.draws = iterations, draws

    def definition(self) -> dict[str, Any]:
        """The loss, and the images it is taken on, which need not be of the test split."""
        seen = {}
        for name in self.datamodule_names:
            split = self.split_of(name)
            seen[name] = [split, self.recorder.manifest(name, split, self.model)]
        return {**super().definition(), "loss": "mean cross-entropy, eval mode", "batch": seen}

    def measure(self) -> dict[str, Estimate]:
        """Worst rise, largest eigenvalue with its residual, trace with its standard error.

        The interval of the trace is that over random vectors; other images are not in it.
        """
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            split = self.split_of(name)
            images, labels = self._batch(name, split)
            for measured, value in self._found(self._loss(name, images, labels)).items():
                value.n = len(labels)
                results[metric_key(name, split, measured)] = value
        return results

    def split_of(self, name: str) -> Split:
        """The split whose loss was minimised, where the dataset has it on disk."""
        datamodule = self.datamodules[name]
        has_train = "train" in datamodule.splits and not datamodule.faults("train")
        return "train" if has_train else self.split

    def _batch(self, name: str, split: Split) -> tuple[Tensor, Tensor]:
        given = [*self.recorder.images(self.model, name, split, samples=self.samples)]
        return torch.cat([one.images for one in given]), torch.cat([one.labels for one in given])

    def _loss(self, name: str, images: Tensor, labels: Tensor) -> Loss:
        space = self.datamodules[name].label_space

        def loss() -> Tensor:
            logits = self.model(images)
            answers = logits if space is None else space.restrict(logits)
            return torch.nn.functional.cross_entropy(answers, labels)

        return loss

    def _found(self, loss: Loss) -> dict[str, Estimate]:
        with evaluating(self.model):
            if not loss().isfinite():
                raise NotApplicable("the loss at the weights is not finite")
        rise = worst_rise(
            self.model,
            loss,
            generator=_generator(),
            radius=self.radius,
            steps=self.steps,
            scale=self.scale,
        )
        top = largest_eigenvalue(
            self.model,
            loss,
            generator=_generator(),
            iterations=self.iterations,
            scale=self.scale,
        )
        trace = hessian_trace(
            self.model, loss, generator=_generator(), draws=self.draws, scale=self.scale
        )
        return {
            "sharpness": self.value(rise),
            "hessian_largest": self.value(top.value),
            "hessian_largest_residual": self.value(top.residual, better=""),
            "hessian_trace": self.value(trace.mean, **ends(trace.interval)),
            "hessian_trace_error": self.value(trace.standard_error, better=""),
        }


def _generator() -> torch.Generator:
    """The same stream for every number and model."""
    return torch.Generator().manual_seed(SEED)
