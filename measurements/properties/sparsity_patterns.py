"""Where the zeros of a model are: by layer, by channel, in patterns that hardware can use."""

from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from core.estimate import Estimate
from measurements.functional.sparsity import Sparsity, zeros_share
from measurements.functional.sparsity_patterns import (
    Side,
    channel_sparsity,
    pattern_share,
    zeros_per_channel,
)
from measurements.layers import layer_labels, layer_weights
from measurements.measurement import ModelMeasurement
from models.base_model import ClassifierModule


class LayerSparsity(ModelMeasurement):
    """Share of zeros among the effective weights of each layer."""

    kind = "property"
    unit, better, version = "fraction", "", 1

    def measure(self) -> dict[str, Estimate]:
        """`weight_sparsity_<layer>` for every convolution, linear and attention weight."""
        weights = layer_weights(self.model)
        shares, labels = zeros_share(weights).per_tensor, layer_labels(weights)
        return {
            self.key(f"weight_sparsity_{labels[name]}"): self.value(share, n=weights[name].numel())
            for name, share in shares.items()
        }


class ChannelSparsity(ModelMeasurement):
    """Share of channels whose effective weights are all zero: those that could be removed.

    `out` are the filters, `in` the channels that filters read; removed channels count nowhere.
    """

    kind = "property"
    unit, better, version = "fraction", "", 1

    def measure(self) -> dict[str, Estimate]:
        """Both sides over all layers, and by layer."""
        weights = layer_weights(self.model)
        labels = layer_labels(weights)
        sides: tuple[Side, ...] = ("out", "in")
        results = {}
        for side in sides:
            found = channel_sparsity(weights, side=side)
            stem = f"channel_sparsity_{side}"
            results[stem] = self.value(found.share, n=found.total)
            results |= self._by_layer(found, {name: f"{stem}_{labels[name]}" for name in weights})
        return {self.key(name): estimate for name, estimate in results.items()}

    def _by_layer(self, found: Sparsity, names: dict[str, str]) -> dict[str, Estimate]:
        return {names[layer]: self.value(share) for layer, share in found.per_tensor.items()}


class ChannelZeros(ModelMeasurement):
    """Share of zeros among the effective weights of single channels: their mean and largest.

    Every channel counts alike, however many weights it has. A largest share of 1 is a channel that
    could be removed; one far above the mean says that zeros gather in some channels. `out` are the
    filters, `in` the channels that filters read.
    """

    kind = "property"
    unit, better, version = "fraction", "", 1

    def measure(self) -> dict[str, Estimate]:
        """Both sides, over the channels of all layers and of each."""
        weights = layer_weights(self.model)
        labels = layer_labels(weights)
        sides: tuple[Side, ...] = ("out", "in")
        results = {}
        for side in sides:
            shares = {
                f"_{labels[name]}": zeros_per_channel(weight, side=side)
                for name, weight in weights.items()
            }
            for layer, share in {"": torch.cat([*shares.values()]), **shares}.items():
                stem, n = f"channel_zeros_{side}", len(share)
                results[f"{stem}_mean{layer}"] = self.value(share.mean().item(), n=n)
                results[f"{stem}_max{layer}"] = self.value(share.max().item(), n=n)
        return {self.key(name): estimate for name, estimate in results.items()}


class PatternSparsity(ModelMeasurement):
    """Share of groups of M consecutive inputs of a filter with at most N weights other than zero.

    A kernel for the pattern needs 1. Zeros at random fit by chance: of groups of four, half of
    the weights zero, 11 of 16 fit 2:4.

    Args:
        n: Weights kept in a group.
        m: Size of a group.

    Reference:
        Mishra et al., Accelerating sparse deep neural networks (2021).
    """

    kind = "property"
    unit, better, version = "fraction", "", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        n: int = 2,
        m: int = 4,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.n, self.m = n, m

    def measure(self) -> dict[str, Estimate]:
        """Fitting groups among all groups of all layers."""
        found = pattern_share(layer_weights(self.model), n=self.n, m=self.m)
        name = self.key(f"pattern_share_{self.n}_{self.m}")
        return {name: self.value(found.share, n=found.groups)}
