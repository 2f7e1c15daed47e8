"""Does the compressed model still see what its baseline sees, at the end and in every layer?"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.cka import StreamingCKA, linear_cka
from measurements.functional.features import pooled
from measurements.functional.jackknife import GROUPS, delete_group_jackknife
from measurements.functional.layer_error import SignalToNoise
from measurements.measurement import PairedMeasurement, ends
from measurements.paired.layers import LayerComparison
from measurements.properties.representation import (
    JACKKNIFE_SEED,
    SAMPLES,
    chosen_rows,
    representation_at,
)
from models.base_model import ClassifierModule

Spatial = Literal["pooled", "flattened"]

LEAST_BATCH = 4
"""Samples of a batch without which there is no unbiased HSIC."""


class FeatureSimilarity(PairedMeasurement):
    """Unbiased linear CKA of what the classifier heads see, with a jackknife interval.

    1 where the features differ by rotation, reflection, one scale and a shift; around 0 where they
    are unrelated. Rows for which a logit of either model is not finite do not take part.

    Args:
        samples: Rows looked at where there are more: a random subset, the same for every model.

    Reference:
        Kornblith et al., Similarity of neural network representations revisited (2019), with the
        unbiased HSIC of Song et al. (2012).
    """

    needs = frozenset({"records", "features"})
    unit, better, version = "", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if samples < GROUPS:
            raise ValueError(f"samples is a number of rows, at least {GROUPS}, got {samples}")
        self.samples = samples

    def measure(self) -> dict[str, Estimate]:
        """`cka` for every dataset."""
        return {
            metric_key(name, self.split, "cka"): self._similarity(name)
            for name in self.datamodule_names
        }

    def _similarity(self, name: str) -> Estimate:
        pair = self.pair(name)
        rows = chosen_rows(pair, self.samples)
        if len(rows) < GROUPS:
            raise NotApplicable(f"{len(rows)} samples with finite logits, {GROUPS} needed")
        now, before = (representation_at(records, rows).features for records in pair)
        found = delete_group_jackknife(
            lambda ids: {"cka": linear_cka(now[ids], before[ids])},
            len(rows),
            generator=torch.Generator().manual_seed(JACKKNIFE_SEED),
        )["cka"]
        return self.value(found.value, n=len(rows), **ends(found.interval))


class LayerSimilarity(LayerComparison):
    """Unbiased linear CKA of every layer with the layer of the same name in the baseline.

    Minibatch form: the ratio of HSICs summed over batches. The interval, by leaving out batches,
    needs 20 of them. Widths may differ, so pruned layers are compared too. Left out are also layers
    that do not vary, and those that do not keep the images apart.

    Args:
        samples: Images both models are run on.
        batch: Images of a minibatch; other sizes give other numbers.
        spatial: `pooled`: mean over places or tokens; `flattened`: each place is a feature.

    Reference:
        Nguyen et al., Do wide and deep networks learn the same things? (2021), minibatch CKA;
        Kornblith et al. (2019).
    """

    unit, better, version = "", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 640,
        batch: int = 32,
        spatial: Spatial = "pooled",
    ) -> None:
        super().__init__(
            datamodule_names, model, experiment_config, samples=samples, images_at_once=batch
        )
        if batch < LEAST_BATCH:
            raise ValueError(f"batch is at least {LEAST_BATCH} images, got {batch}")
        if spatial not in get_args(Spatial):
            raise ValueError(f"spatial is one of {', '.join(get_args(Spatial))}, got {spatial!r}")
        self.spatial = spatial

    def keep(self, name: str, output: Tensor) -> Tensor:
        """Feature vectors of the images."""
        if self.spatial == "flattened":
            return output.detach().flatten(start_dim=1).clone()
        is_linear = isinstance(self.baseline.get_submodule(name), nn.Linear)
        return pooled(output, unit_dim=-1 if is_linear else 1)

    def of(self, dataset: str) -> dict[str, Estimate]:
        """`layer_cka_<layer>`, `cka_lowest_layer` and `cka_layers_left_out`."""
        found: dict[str, StreamingCKA] = {}
        for count, outputs in self.outputs(dataset):
            for name, before, now in outputs:
                if count >= LEAST_BATCH and len(before) == len(now) == count:
                    found.setdefault(name, StreamingCKA()).add(now, before)
        values = {name: value for name in found if (value := self._value(found[name])) is not None}
        left_out = self.count_left_out(len(values))
        lowest, label = min(values.values()), self.layers()
        return {
            **{f"layer_cka_{label[name]}": value for name, value in values.items()},
            "cka_lowest_layer": self.value(lowest, n=lowest.n),
            "cka_layers_left_out": left_out,
        }

    def _value(self, found: StreamingCKA) -> Estimate | None:
        """With an interval where there are batches enough; None where nothing varies."""
        try:
            if found.batches < GROUPS:
                return self.value(found.value, n=found.samples)
            generator = torch.Generator().manual_seed(JACKKNIFE_SEED)
            estimate = found.estimate(generator=generator)
        except NotApplicable:
            return None
        return self.value(estimate.value, n=found.samples, **ends(estimate.interval))


class LayerError(LayerComparison):
    """Signal to quantization noise of every layer: how much of its output is error.

    10 log10 of the energy of the baseline's output over that of the difference. A layer without any
    error has no such number and gets `layer_identical_<layer>` = 1 instead. Left out are also
    layers of another width, and those whose baseline puts out zeros alone.

    Args:
        samples: Images both models are run on.

    Reference:
        Gray & Neuhoff, Quantization (1998).
    """

    unit, better, version = "dB", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 128,
    ) -> None:
        super().__init__(
            datamodule_names, model, experiment_config, samples=samples, images_at_once=16
        )

    def of(self, dataset: str) -> dict[str, Estimate]:
        """`layer_sqnr_<layer>`, the lowest, and how many layers are identical or left out."""
        found: dict[str, SignalToNoise] = {}
        total = 0
        for count, outputs in self.outputs(dataset):
            total += count
            for name, before, now in outputs:
                if before.shape == now.shape:
                    found.setdefault(name, SignalToNoise()).add(before, approximation=now)
        return self._named(found, n=total)

    def _named(self, found: dict[str, SignalToNoise], *, n: int) -> dict[str, Estimate]:
        label = self.layers()
        identical = [name for name, each in found.items() if each.identical]
        noisy = [name for name, each in found.items() if each.noise and each.signal]
        ratios = {f"layer_sqnr_{label[name]}": _decibels(found[name]) for name in noisy}
        left_out = self.count_left_out(len(noisy) + len(identical))
        lowest = {"sqnr_lowest_layer": min(ratios.values())} if ratios else {}
        return {
            **{name: self.value(ratio, n=n) for name, ratio in {**ratios, **lowest}.items()},
            **{
                f"layer_identical_{label[name]}": self.value(1, n=n, unit="yes")
                for name in identical
            },
            "sqnr_layers_identical": self.value(len(identical), n=n, unit="layers"),
            "sqnr_layers_left_out": left_out,
        }


def _decibels(found: SignalToNoise) -> float:
    ratio = found.decibels
    assert ratio is not None  # there is noise
    return ratio
