"""Which filters go, judged by what the network does with images."""

import sys
from abc import abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressors.base import Task
from compressors.pruning.coupling import filter_rows
from compressors.pruning.filters import FilterPruner, Rank
from compressors.tracing import LAYERS, traceable
from core.errors import ConfigError

Activation = Literal["relu", "relu6"]

NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm")
PASSED = (*NORMS, "dropout", "dropout1d", "dropout2d", "contiguous", "float", "to")
"""Functions that a layer's output may go through on its way to the activation."""


def require_batches(count: Any) -> None:
    """Refuse a number of batches that is none."""
    if type(count) is not int or count < 1:
        raise ConfigError([f"compressor.statistics_batches is at least 1, got {count!r}"])


def observed(task: Task, count: int) -> list[tuple[Tensor, Tensor]]:
    """The first batches of the tuning data: images [B, K, H, W] and labels [B].

    Raises:
        ConfigError: There are fewer.
    """
    batches = list(islice(task.given.batches(sys.maxsize), count))
    if len(batches) < count:
        raise ConfigError(
            [
                f"compressor.statistics_batches={count}, but the tuning data has "
                f"{len(batches)}; lower it, or batch_size, or raise tuning.samples"
            ]
        )
    return batches


class ObservingPruner(FilterPruner):
    """Ranks filters by what some batches of the tuning data show.

    Args:
        statistics_batches: How many batches are looked at.
        **options: Those of FilterPruner.
    """

    needs: ClassVar = frozenset({"batches"})

    def __init__(self, *, statistics_batches: int = 1, **options: Any) -> None:
        super().__init__(**options)
        require_batches(statistics_batches)
        self.statistics_batches = statistics_batches

    def options(self) -> dict[str, Any]:
        """How ties are ranked, and on how much data."""
        return {**super().options(), "statistics_batches": self.statistics_batches}


class TaylorFirstOrderWeight(ObservingPruner):
    """Removes the filters whose loss by first-order Taylor expansion is least.

    Gradients are those of the cross-entropy in eval mode.

    Reference:
        Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019, equation 8,
        summed over the weights of a filter: (g w)^2 of each batch's gradient, then the mean.
    """

    unranked = "it takes no part in the logits"

    def ranker(self, task: Task) -> Rank:
        """Mean over batches of the sum of (gradient x weight)^2 of each filter."""
        twin = traceable(task.model)
        layers = {name: m for name, m in twin.named_modules() if isinstance(m, LAYERS)}
        batches = observed(task, self.statistics_batches)
        scores: dict[str, Tensor] = {}
        for images, labels in batches:
            twin.zero_grad(set_to_none=True)
            with torch.enable_grad():
                F.cross_entropy(twin(images), labels).backward()
            for name, layer in layers.items():
                if layer.weight.grad is not None:
                    gain = filter_rows(layer, layer.weight.grad) * filter_rows(layer, layer.weight)
                    mean = gain.square().sum(dim=1) / len(batches)
                    scores[name] = scores.get(name, torch.zeros_like(mean)) + mean
        return scores.get


@dataclass
class Seen:
    """Sums over all images and places, float64 [channels], and how many values they are of."""

    positive: Tensor | float = 0.0
    total: Tensor | float = 0.0
    count: int = 0

    def add(self, values: Tensor, dim: int) -> None:
        """Take in activations whose channels are dimension `dim`."""
        rows = values.detach().double().movedim(dim, 0).flatten(1)
        self.positive = self.positive + (rows > 0).sum(dim=1)
        self.total = self.total + rows.sum(dim=1)
        self.count += rows.shape[1]

    @property
    def positive_share(self) -> Tensor:
        """Share of the values that are above zero, [channels]."""
        return torch.as_tensor(self.positive).double() / self.count

    @property
    def mean(self) -> Tensor:
        """Mean value, [channels]."""
        return torch.as_tensor(self.total).double() / self.count


class ActivationRank(ObservingPruner):
    """Ranks filters by the activation behind the layer, also where that is a plain function.

    Between the two there may be a norm or a dropout; a layer with an addition before the next
    activation, as at the end of a residual block, has none of its own and stays whole.

    Args:
        activation: Function whose outputs count.
        **options: Those of ObservingPruner.
    """

    def __init__(self, *, activation: Activation = "relu", **options: Any) -> None:
        super().__init__(**options)
        if activation not in get_args(Activation):
            known = " or ".join(get_args(Activation))
            raise ConfigError([f"compressor.activation is {known}, got {activation!r}"])
        self.activation = activation
        self.unranked = f"no {activation} is behind it"

    def options(self) -> dict[str, Any]:
        """How ties are ranked, on how much data, and which activation counts."""
        return {**super().options(), "activation": self.activation}

    @abstractmethod
    def importance(self, seen: Seen) -> Tensor:
        """Score of each filter, the lowest go first."""

    def ranker(self, task: Task) -> Rank:
        """Look at the activations of all layers at once."""
        watched = _Watched(self.activation)
        with ExitStack() as stack:
            for name, module in task.model.named_modules():
                if isinstance(module, LAYERS):
                    stack.callback(module.register_forward_hook(_marking(name)).remove)
            with torch.no_grad():
                for images, _ in observed(task, self.statistics_batches):
                    with watched:
                        task.model(images)
        scores = {name: self.importance(seen) for name, seen in watched.seen.items()}
        return scores.get


class ActivationAPoZRank(ActivationRank):
    """Removes the filters whose activation is zero most often.

    Reference:
        Hu et al., Network Trimming, 2016, equation 1 (average percentage of zeros).
    """

    def importance(self, seen: Seen) -> Tensor:
        """Share of activations above zero: 1 - APoZ."""
        return seen.positive_share


class ActivationMeanRank(ActivationRank):
    """Removes the filters whose mean activation is least.

    Reference:
        Molchanov et al., Pruning Convolutional Neural Networks, ICLR 2017, section 2.2, activation.
    """

    def importance(self, seen: Seen) -> Tensor:
        """Mean activation."""
        return seen.mean


class _Watched(TorchFunctionMode):
    """Follows marked tensors through norms, and notes what the activation makes of them."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.seen: dict[str, Seen] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        source = args[0] if args else kwargs.get("input")
        mark = getattr(source, "_made_by", None) if isinstance(source, Tensor) else None
        result = func(*args, **kwargs)
        if mark is None:
            return result
        name = getattr(func, "__name__", "").rstrip("_")
        if name in PASSED:
            result._made_by = mark
        elif self._is_activation(name, args, kwargs):
            layer, dim = mark
            self.seen.setdefault(layer, Seen()).add(result, dim)
            if result is source:  # in place: what comes next is not the layer's own
                del result._made_by
        elif result is source:
            del result._made_by
        return result

    def _is_activation(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call is the activation; a clip between 0 and 6 is a relu6."""
        if name != "hardtanh":
            return name == self.activation
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return self.activation == "relu6" and (low, high) == (0, 6)


def _marking(name: str) -> Callable[..., None]:
    """A forward hook that marks a layer's output with its name and the dimension of channels."""

    def hook(module: nn.Module, _inputs: object, output: Tensor) -> None:
        dim = -1 if isinstance(module, nn.Linear | nn.Bilinear) else 1
        output._made_by = name, dim  # type: ignore[attr-defined]

    return hook
