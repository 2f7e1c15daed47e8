"""Layers that compute with few bits in floats, and can be trained so.

Rounding has no gradient: behind it, that of the number before is taken (straight through), and none
where the number is beyond what the bits can say.
"""

import copy
from abc import abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import IncompatibleModel
from models.replacements import Replacement

WITH_WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
RECTIFIERS = (nn.ReLU, nn.ReLU6)


def straight_through(rounded: Tensor, exact: Tensor) -> Tensor:
    """The value of `rounded` with the gradient of `exact`."""
    return rounded.detach() + (exact - exact.detach())


def fake_quantized(
    numbers: Tensor, scale: Tensor, zero_point: Tensor | int, *, lowest: int, highest: int
) -> Tensor:
    """Numbers as integers from `lowest` to `highest` would give them.

    Example:
        >>> numbers = torch.tensor([0.24, 0.26, 9.0], requires_grad=True)
        >>> found = fake_quantized(numbers, torch.tensor(0.5), 0, lowest=-2, highest=2)
        >>> found.sum().backward()
        >>> found.tolist(), numbers.grad.tolist()
        ([0.0, 0.5, 1.0], [1.0, 1.0, 0.0])
    """
    steps = (numbers / scale).round() + zero_point
    inside = (steps >= lowest) & (steps <= highest)
    value = (steps.clamp(lowest, highest) - zero_point) * scale
    return straight_through(value, numbers * inside)


def levels(numbers: Tensor, bits: int) -> Tensor:
    """Numbers in [0, 1] rounded to the 2^bits levels i / (2^bits - 1).

    Example:
        >>> [round(x, 3) for x in levels(torch.tensor([0.1, 0.4, 0.9]), 2).tolist()]
        [0.0, 0.333, 1.0]
    """
    highest = 2**bits - 1
    return straight_through((numbers * highest).round() / highest, numbers)


def signs(numbers: Tensor) -> Tensor:
    """1 from zero on, -1 below; the gradient is that of hardtanh.

    Example:
        >>> signs(torch.tensor([-0.1, 0.0, 2.0])).tolist()
        [-1.0, 1.0, 1.0]
    """
    ones = torch.ones_like(numbers)
    return straight_through(torch.where(numbers >= 0, ones, -ones), numbers.clamp(-1, 1))


class Simulated(Replacement):
    """Holds a layer with weights in floats and lets it compute with others.

    Args:
        layer: A copy of it is held.
    """

    holds = "layer"

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, WITH_WEIGHTS):
            raise IncompatibleModel(f"a {type(layer).__name__} is not simulated in fewer bits")
        self.layer = copy.deepcopy(layer)

    @abstractmethod
    def few_bits(self, weight: Tensor) -> Tensor:
        """The weight that is computed with."""

    @abstractmethod
    def taken_in(self, features: Tensor) -> Tensor:
        """What comes in, as it is computed with."""

    @property
    def weight(self) -> Tensor:
        """What the forward pass multiplies with."""
        return self.few_bits(cast(Tensor, self.layer.weight))

    @property
    def bias(self) -> Tensor | None:
        """In floats."""
        return cast(Tensor | None, self.layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """As the layer, with few bits."""
        taken = self.taken_in(features)
        return cast(
            Tensor, torch.func.functional_call(self.layer, {"weight": self.weight}, (taken,))
        )


class FakeQuantized(Simulated):
    """Weights with a step for each output channel, inputs on a range that training has seen.

    Args:
        layer: As in Simulated.
        weight_levels: Largest integer of a weight, the smallest is its negative; None for floats.
        input_levels: Largest integer of an input, the smallest is zero; None for floats.
        start_step: Steps of training that only look at ranges.
        decay: Of the moving average of a range: the share that a batch leaves of it.
    """

    low: Tensor
    high: Tensor
    steps: Tensor

    def __init__(
        self,
        layer: nn.Module,
        *,
        weight_levels: int | None,
        input_levels: int | None,
        start_step: int,
        decay: float,
    ) -> None:
        super().__init__(layer)
        self.weight_levels, self.input_levels = weight_levels, input_levels
        self.start_step, self.decay = start_step, decay
        device = cast(Tensor, self.layer.weight).device
        for name in ("low", "high"):
            self.register_buffer(name, torch.zeros((), device=device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))

    @classmethod
    def of(  # type: ignore[override]
        cls,
        layer: nn.Module,
        *,
        weight_levels: int | None,
        input_levels: int | None,
        start_step: int = 0,
        decay: float = 0.99,
    ) -> "FakeQuantized":
        """The layer, with ranges to be seen."""
        return cls(
            layer,
            weight_levels=weight_levels,
            input_levels=input_levels,
            start_step=start_step,
            decay=decay,
        )

    @classmethod
    def after_step(cls, model: nn.Module) -> None:
        """Norms go on with the statistics they have: they scale the steps of weights."""
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()

    @property
    def _waits(self) -> bool:
        return self.training and int(self.steps) <= self.start_step

    def few_bits(self, weight: Tensor) -> Tensor:
        """Symmetric integers; a BatchNorm behind the layer only scales their steps."""
        if self.weight_levels is None or self._waits:
            return weight
        largest = weight.detach().flatten(1).abs().amax(dim=1)
        scale = (largest / self.weight_levels).clamp(min=torch.finfo(weight.dtype).tiny)
        return fake_quantized(
            weight,
            scale.view(-1, *[1] * (weight.ndim - 1)),
            0,
            lowest=-self.weight_levels,
            highest=self.weight_levels,
        )

    def taken_in(self, features: Tensor) -> Tensor:
        """Integers from zero on, on the range with zero in it."""
        if self.input_levels is None:
            self._count()
            return features
        self._observe(features)
        if self._waits:
            return features
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        scale = ((high - low) / self.input_levels).clamp(min=torch.finfo(low.dtype).tiny)
        zero_point = (-low / scale).round()
        return fake_quantized(features, scale, zero_point, lowest=0, highest=self.input_levels)

    def _observe(self, features: Tensor) -> None:
        """Let a batch of training move the range; the first one is the range."""
        if not self.training:
            return
        share = 1.0 if int(self.steps) == 0 else 1 - self.decay
        low, high = features.detach().float().aminmax()
        self.low.lerp_(low, share)
        self.high.lerp_(high, share)
        self._count()

    def _count(self) -> None:
        if self.training:
            self.steps += 1


class DoReFa(Simulated):
    """Weights and inputs of `bits` bits each; 1 bit of a weight is its sign.

    Args:
        layer: As in Simulated.
        weight_bits: 1 to 8.
        input_bits: 1 to 8.

    Reference:
        Zhou et al., DoReFa-Net: Training low bitwidth convolutional neural networks with low
        bitwidth gradients (2016), equations 5 to 11.
    """

    def __init__(self, layer: nn.Module, *, weight_bits: int, input_bits: int) -> None:
        super().__init__(layer)
        self.weight_bits, self.input_bits = weight_bits, input_bits

    @classmethod
    def of(  # type: ignore[override]
        cls, layer: nn.Module, *, weight_bits: int, input_bits: int
    ) -> "DoReFa":
        """The layer in these bits."""
        return cls(layer, weight_bits=weight_bits, input_bits=input_bits)

    def few_bits(self, weight: Tensor) -> Tensor:
        """In [-1, 1]; with 1 bit, plus or minus the mean magnitude; what was zeroed stays zero."""
        kept = weight != 0  # the levels have no zero
        if self.weight_bits == 1:
            size = weight.detach().abs().mean()
            return kept * straight_through(torch.where(weight >= 0, size, -size), weight)
        bent = weight.tanh()
        largest = bent.detach().abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
        return kept * (2 * levels(bent / (2 * largest) + 0.5, self.weight_bits) - 1)

    def taken_in(self, features: Tensor) -> Tensor:
        """In [0, 1]."""
        return levels(features.clamp(0, 1), self.input_bits)


class Binary(Simulated):
    """Weights and inputs are signs.

    Args:
        layer: As in Simulated.

    Reference:
        Courbariaux et al., Binarized neural networks (2016), algorithm 1.
    """

    @classmethod
    def of(cls, layer: nn.Module) -> "Binary":  # type: ignore[override]
        """The layer in signs."""
        return cls(layer)

    @classmethod
    def after_step(cls, model: nn.Module) -> None:
        """Weights stay where their signs have a gradient."""
        for part in model.modules():
            if isinstance(part, Binary):
                with torch.no_grad():
                    cast(Tensor, part.layer.weight).clamp_(-1, 1)

    def few_bits(self, weight: Tensor) -> Tensor:
        """1 or -1; what was zeroed stays zero."""
        return (weight != 0) * signs(weight)

    def taken_in(self, features: Tensor) -> Tensor:
        """1 or -1."""
        return signs(features)


class HardTanh(Replacement):
    """Stands in the place of a ReLU: behind it there are both signs."""

    @classmethod
    def of(cls, layer: nn.Module) -> "HardTanh":  # type: ignore[override]
        """Has no weights."""
        if not isinstance(layer, RECTIFIERS):
            raise IncompatibleModel(f"a {type(layer).__name__} is no ReLU")
        return cls()

    def forward(self, features: Tensor) -> Tensor:
        """Between -1 and 1, any shape."""
        return F.hardtanh(features)


def in_floats(model: nn.Module) -> nn.Module:
    """A copy with the layers that are held, in floats, for those that simulate fewer bits.

    Args:
        model: Left as it is.
    """
    twin = copy.deepcopy(model)
    for name, part in list(twin.named_modules()):
        if isinstance(part, Simulated):
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, part.layer)
    return twin
