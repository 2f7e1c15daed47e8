"""How fast the loss rises around the weights.

None of the absolute numbers survives a rescaling of layers that leaves the function as it is (Dinh
et al., Sharp minima can generalize for deep nets, 2017); the filter-normalised ones survive that
of whole layers. All depend on the loss and on the batch: say which. The model is in eval mode, so
batch statistics play no part, and has its weights and modes back afterwards, also after an error.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.functional.intervals import Interval
from measurements.functional.power_iteration import Dominant, dominant_eigenvalue

Loss = Callable[[], Tensor]
"""The loss of the model at its present weights on one fixed batch; a scalar with a gradient."""

Scale = Literal["absolute", "filter"]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A trace from random probes."""

    mean: float
    standard_error: float
    draws: int

    @property
    def interval(self) -> Interval:
        """Two-sided 95 % interval by Student's t; over probes, of the same images."""
        from scipy import special  # here: it takes a moment to import

        half = float(special.stdtrit(self.draws - 1, 0.975)) * self.standard_error
        return Interval(self.mean - half, self.mean + half)


def worst_rise(
    model: nn.Module,
    loss: Loss,
    *,
    generator: torch.Generator,
    radius: float = 0.05,
    steps: int = 20,
    scale: Scale = "absolute",
) -> float:
    """Largest rise over ||e|| <= radius of L(w + e) - L(w), by projected gradient ascent.

    Each step goes `radius` along the gradient and back onto the ball, so one step is that of
    sharpness-aware minimisation. The largest rise seen is returned: a lower bound of the maximum.

    Args:
        model: Its parameters that require a gradient are moved.
        loss: Closure over `model` and a batch, not random.
        generator: Gives a direction where the gradient is zero.
        radius: Of the ball, above 0.
        steps: Gradients taken, at least 1.
        scale: With `filter` the length of e counts in units of the weights: each entry is divided
            by the norm of its filter, those of biases and norms by their own magnitude.

    Returns:
        At least 0, in units of the loss; lower is flatter.

    Raises:
        NotApplicable: No parameter has a gradient, or the loss overflows on the way up.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> rise = worst_rise(
        ...     model, lambda: model.weight.sum() ** 2, radius=0.5, generator=torch.Generator()
        ... )
        >>> rise  # 2.5^2 - 2^2
        2.25

    Reference:
        Foret et al., Sharpness-aware minimization (2021); Kwon et al., ASAM (2021), with the
        filters of Li et al., Visualizing the loss landscape (2018).
    """
    if radius <= 0 or steps < 1:
        raise ValueError(f"expected radius > 0 and steps >= 1, got {radius=} and {steps=}")
    with _held(model) as weights:
        origin, scales = _flat(weights), _scales(weights, scale)
        move, best = torch.zeros_like(origin), 0.0
        current = loss()
        start = _finite(current)
        for _ in range(steps):
            slope = _flat(_gradients(current, weights)) * scales
            move = _onto_ball(move + radius * _direction(slope, generator), radius)
            _place(weights, origin + scales * move)
            current = loss()
            if not current.isfinite():
                raise NotApplicable(f"the loss overflows within a radius of {radius}")
            best = max(best, _finite(current) - start)
    return best


def largest_eigenvalue(
    model: nn.Module,
    loss: Loss,
    *,
    generator: torch.Generator,
    iterations: int = 100,
    tolerance: float = 1e-3,
    scale: Scale = "absolute",
) -> Dominant:
    """Largest eigenvalue of the Hessian of the loss in the weights, by power iteration.

    Where an eigenvalue of larger magnitude is negative, a second search on the shifted Hessian
    finds the largest one.

    Args:
        model: Its parameters that require a gradient are the weights.
        loss: Closure over `model` and a batch, not random, twice differentiable.
        generator: Gives the first vector.
        iterations: At most this many products with the Hessian for each search.
        tolerance: On the residual, as a share of the eigenvalue searched for.
        scale: With `filter` the Hessian is that in weights measured as in `worst_rise`.

    Returns:
        The eigenvalue, in units of the loss, and its residual; lower is flatter.

    Raises:
        NotApplicable: No parameter has a gradient.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> largest_eigenvalue(
        ...     model, lambda: 3 * model.weight.sum() ** 2, generator=torch.Generator()
        ... ).value
        6.0

    Reference:
        Yao et al., PyHessian (2020).
    """
    with _held(model) as weights:
        curvature = _curvature(loss, weights, scale)
        first = _random_like(_flat(weights), generator)
        found = dominant_eigenvalue(curvature, first, iterations=iterations, tolerance=tolerance)
        if found.value >= 0:
            return found
        lowest = found.value
        shifted = dominant_eigenvalue(
            lambda vector: curvature(vector) - lowest * vector,
            first,
            iterations=iterations,
            tolerance=tolerance,
        )
    return replace(shifted, value=shifted.value + lowest)


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    *,
    generator: torch.Generator,
    draws: int = 100,
    scale: Scale = "absolute",
) -> Trace:
    """Trace of the Hessian of the loss in the weights: mean of v' H v over random signs v.

    Args:
        model: Its parameters that require a gradient are the weights.
        loss: Closure over `model` and a batch, not random, twice differentiable.
        generator: Gives the signs.
        draws: Products with the Hessian, at least 2.
        scale: With `filter` the Hessian is that in weights measured as in `worst_rise`.

    Returns:
        Mean and standard error, in units of the loss; lower is flatter. A diagonal Hessian has no
        error: each draw gives the trace.

    Raises:
        NotApplicable: No parameter has a gradient.

    Example:
        >>> model = nn.Linear(3, 1, bias=False)
        >>> hessian_trace(
        ...     model, lambda: model.weight.square().sum(), generator=torch.Generator(), draws=2
        ... )
        Trace(mean=6.0, standard_error=0.0, draws=2)

    Reference:
        Hutchinson, A stochastic estimator of the trace of the influence matrix (1989).
    """
    if draws < 2:
        raise ValueError(f"draws is at least 2, one gives no error, got {draws}")
    with _held(model) as weights:
        curvature = _curvature(loss, weights, scale)
        origin = _flat(weights)
        found = []
        for _ in range(draws):
            signs = _random_like(origin, generator).sign()
            found.append(torch.dot(signs, curvature(signs)).double())
    values = torch.stack(found)
    return Trace(
        mean=values.mean().item(),
        standard_error=values.std().item() / math.sqrt(draws),
        draws=draws,
    )


@contextmanager
def _held(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The weights, with gradients on and in eval mode; afterwards all is as it was."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise NotApplicable("no parameter of the model has a gradient")
    saved = [weight.detach().clone() for weight in weights]
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield weights
    finally:
        for module, training in was_training.items():
            module.training = training
        with torch.no_grad():
            for weight, value in zip(weights, saved, strict=True):
                weight.copy_(value)


def _scales(weights: Sequence[Tensor], scale: Scale) -> Tensor:
    """How far each entry moves for a move of 1."""
    if scale == "absolute":
        return torch.ones_like(_flat(weights))
    if scale != "filter":
        raise ValueError(f"scale is 'absolute' or 'filter', got {scale!r}")
    return _flat([_own_scale(weight.detach()) for weight in weights])


def _own_scale(weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return weight.abs()
    norms = weight.flatten(start_dim=1).norm(dim=1)
    return norms.view(-1, *[1] * (weight.ndim - 1)).expand_as(weight)


def _curvature(loss: Loss, weights: Sequence[Tensor], scale: Scale) -> Callable[[Tensor], Tensor]:
    """Product of a vector with the Hessian at the present weights; the loss is computed once."""
    scales = _scales(weights, scale)
    value = loss()
    _finite(value)
    slope = torch.cat(
        [
            gradient.flatten()
            for gradient in torch.autograd.grad(
                value, weights, create_graph=True, materialize_grads=True
            )
        ]
    )

    def product(vector: Tensor) -> Tensor:
        if not slope.requires_grad:  # a loss that is linear in all weights
            return torch.zeros_like(vector)
        moved = torch.autograd.grad(
            slope, weights, scales * vector, retain_graph=True, materialize_grads=True
        )
        return scales * _flat(moved)

    return product


def _gradients(value: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, weights, materialize_grads=True)


def _direction(slope: Tensor, generator: torch.Generator) -> Tensor:
    """Where the loss rises fastest; a random direction where it is flat."""
    if not slope.any():
        slope = _random_like(slope, generator)
    return slope / slope.norm()


def _onto_ball(move: Tensor, radius: float) -> Tensor:
    length = move.norm()
    return move * (radius / length) if length > radius else move


def _place(weights: Sequence[Tensor], values: Tensor) -> None:
    with torch.no_grad():
        for weight, part in zip(
            weights, values.split([weight.numel() for weight in weights]), strict=True
        ):
            weight.copy_(part.view_as(weight))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _random_like(vector: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(len(vector), generator=generator).to(vector)


def _finite(value: Tensor) -> float:
    number = float(value.item())
    if not math.isfinite(number):
        raise ValueError(f"expected a finite loss, got {number}")
    return number
