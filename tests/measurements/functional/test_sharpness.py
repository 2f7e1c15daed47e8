"""Sharpness of quadratics, whose Hessians are known, and what it leaves behind."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.functional.sharpness import (
    Loss,
    hessian_trace,
    largest_eigenvalue,
    worst_rise,
)


class Point(nn.Module):
    """A model that is a point, in float64."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def quadratic(self, *curvatures: float) -> Loss:
        diagonal = torch.tensor(curvatures, dtype=torch.float64)
        return lambda: (diagonal * self.w * self.w).sum() / 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> tuple[nn.Module, Loss]:
    """Linear, BatchNorm, linear in training mode, with a loss on a fixed batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    x, y = torch.randn(16, 4, generator=seeded(1)), torch.arange(16) % 3
    return model, lambda: nn.functional.cross_entropy(model(x), y)


Measure = Callable[..., object]
EACH = pytest.mark.parametrize(
    "measure", [worst_rise, largest_eigenvalue, hessian_trace], ids=lambda f: f.__name__
)


def test_at_the_minimum_of_a_quadratic_the_rise_is_that_of_the_steepest_direction() -> None:
    point = Point(0, 0, 0)
    found = worst_rise(point, point.quadratic(10, 3, 1), generator=seeded())
    assert found == pytest.approx(0.0125, rel=1e-6)  # 10 x .05^2 / 2


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.536086), (20, 0.536111)], ids=["one", "all"])
def test_on_a_slope_of_a_quadratic_the_rise_is_known(steps: int, expected: float) -> None:
    point = Point(1, 1, 1)
    found = worst_rise(point, point.quadratic(10, 3, 1), steps=steps, generator=seeded())
    assert found == pytest.approx(expected, abs=5e-7)


def test_on_a_straight_slope_the_rise_is_radius_times_steepness_at_any_step() -> None:
    point = Point(1, 1)
    slope = torch.tensor([3.0, 4.0], dtype=torch.float64)
    found = worst_rise(point, lambda: point.w @ slope, radius=0.5, steps=7, generator=seeded())
    assert found == pytest.approx(2.5)


def test_the_best_of_all_steps_counts_not_the_last() -> None:
    point = Point(0.0)
    # a hill at .03: the first step of .05 goes over it and the second returns to the foot
    found = [
        worst_rise(
            point,
            lambda: -((point.w - 0.03) ** 2).sum(),
            radius=0.05,
            steps=steps,
            generator=seeded(),
        )
        for steps in (1, 2)
    ]
    assert found == pytest.approx([0.03**2 - 0.02**2] * 2)


@pytest.mark.parametrize("radius", [1.0, 3.0], ids=["within", "beyond"])
def test_a_loss_that_overflows_on_the_way_up_has_no_rise(radius: float) -> None:
    point = Point(1.0)
    height = torch.tensor(300.0, dtype=torch.float64)  # exp(600) is a number, exp(1200) is none

    def rise() -> float:
        return worst_rise(
            point, lambda: (height * point.w).exp().sum(), radius=radius, generator=seeded()
        )

    if radius == 1:
        assert rise() == pytest.approx(math.exp(600), rel=1e-9)
    else:
        with pytest.raises(NotApplicable, match=r"overflows within a radius of 3\.0"):
            rise()
    assert point.w.item() == 1


def test_on_a_summit_nothing_rises() -> None:
    point = Point(0, 0)
    assert worst_rise(point, point.quadratic(-1, -2), generator=seeded()) == 0.0


def test_filter_normalised_moves_are_in_units_of_the_filters() -> None:
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))  # norms 5 and 1
    slope = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found = worst_rise(
        model, lambda: (model.weight * slope).sum(), radius=0.1, scale="filter", generator=seeded()
    )
    assert found == pytest.approx(0.5)


def test_biases_move_in_units_of_themselves() -> None:
    point = Point(2.0, -6.0)
    slope = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = worst_rise(
        point, lambda: point.w @ slope, radius=0.1, scale="filter", generator=seeded()
    )
    assert found == pytest.approx(0.6)


def test_the_filter_normalised_rise_alone_survives_a_rescaling_of_layers() -> None:
    x = torch.randn(10, 3, generator=seeded(1), dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[0].weight.mul_(4), scaled[0].bias.mul_(4), scaled[2].weight.div_(4)

    def rise(net: nn.Module, **options: str) -> float:
        return worst_rise(net, lambda: net(x).square().mean(), generator=seeded(), **options)

    assert rise(scaled, scale="filter") == pytest.approx(rise(model, scale="filter"), rel=1e-9)
    assert rise(scaled) > 1.5 * rise(model)


@pytest.mark.parametrize("curvatures", [(10, 3, 1), (-4, 3, 1), (-10, -3, -1)], ids=str)
def test_the_largest_eigenvalue_is_not_the_largest_magnitude(curvatures: tuple[int, ...]) -> None:
    point = Point(1, 2, 3)
    found = largest_eigenvalue(
        point, point.quadratic(*curvatures), tolerance=1e-6, iterations=500, generator=seeded()
    )
    assert found.value == pytest.approx(max(curvatures), abs=1e-5)
    assert found.residual < 1e-4


def test_eigenvalue_and_trace_of_a_full_hessian() -> None:
    matrix = torch.tensor([[4.0, 1, 0], [1, 3, 1], [0, 1, -2]], dtype=torch.float64)
    point = Point(1, 2, 3)

    def loss() -> Tensor:
        return point.w @ matrix @ point.w / 2

    largest = torch.linalg.eigvalsh(matrix).max().item()
    found = largest_eigenvalue(point, loss, tolerance=1e-6, iterations=500, generator=seeded())
    assert found.value == pytest.approx(largest, rel=1e-6)
    trace = hessian_trace(point, loss, draws=400, generator=seeded())
    # the variance of a draw is 2 x the sum of squares beside the diagonal: 2 x 4
    assert trace.standard_error == pytest.approx(math.sqrt(8 / 400), rel=0.1)
    assert abs(trace.mean - 5) < 4 * trace.standard_error


def test_the_trace_of_a_diagonal_hessian_is_exact() -> None:
    point = Point(1, 1, 1)
    found = hessian_trace(point, point.quadratic(10, 3, 1), draws=5, generator=seeded())
    assert (found.mean, found.standard_error) == (14.0, 0.0)


def test_a_straight_loss_has_no_curvature() -> None:
    point = Point(1, 2)
    assert largest_eigenvalue(point, lambda: point.w.sum(), generator=seeded()).value == 0.0
    assert hessian_trace(point, lambda: point.w.sum(), generator=seeded()).mean == 0.0


def test_a_weight_that_the_loss_does_not_see_counts_as_flat() -> None:
    point = Point(1, 1, 1)
    point.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    loss = point.quadratic(10, 3, 1)
    assert worst_rise(point, loss, generator=seeded()) == pytest.approx(0.536111, abs=5e-7)
    assert hessian_trace(point, loss, draws=2, generator=seeded()).mean == 14.0


def test_frozen_weights_are_not_moved() -> None:
    point = Point(1, 1, 1)
    point.frozen = nn.Parameter(torch.tensor(100.0, dtype=torch.float64), requires_grad=False)
    loss = point.quadratic(10, 3, 1)
    found = worst_rise(point, lambda: loss() + 1e3 * point.frozen, generator=seeded())
    assert found == pytest.approx(0.536111, abs=1e-6)


def state(model: nn.Module) -> list[object]:
    tensors = [tensor.tolist() for tensor in model.state_dict().values()]
    modes = [module.training for module in model.modules()]
    gradients = [weight.grad for weight in model.parameters()]
    return [tensors, modes, gradients]


@EACH
@pytest.mark.parametrize("around", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_is_left_exactly_as_it_was(
    measure: Measure, around: Callable[[], AbstractContextManager[None]]
) -> None:
    model, loss = network()
    model[1].eval()  # a frozen BatchNorm stays frozen, the rest goes on training
    before = state(model)
    storage = [weight.data_ptr() for weight in model.parameters()]
    with around():
        measure(model, loss, generator=seeded())
    assert state(model) == before
    assert [weight.data_ptr() for weight in model.parameters()] == storage


def test_weights_come_back_exactly_from_far_away() -> None:
    model = nn.Linear(3, 1)
    before = state(model)
    worst_rise(model, lambda: model.weight.sum(), radius=1e9, generator=seeded())
    assert state(model) == before


@EACH
def test_the_model_is_left_exactly_as_it_was_after_an_error(measure: Measure) -> None:
    model, loss = network()
    before, calls = state(model), []

    def failing() -> Tensor:
        calls.append(1)
        if measure is not worst_rise or len(calls) == 3:  # the weights are away from home
            raise RuntimeError("out of memory")
        return loss()

    with pytest.raises(RuntimeError, match="out of memory"):
        measure(model, failing, generator=seeded())
    assert state(model) == before


@EACH
def test_the_loss_sees_the_model_in_eval_mode(measure: Measure) -> None:
    model, loss = network()
    modes = []

    def watched() -> Tensor:
        modes.extend(module.training for module in model.modules())
        return loss()

    measure(model, watched, generator=seeded())
    assert modes
    assert not any(modes)


@EACH
def test_a_loss_that_is_not_finite_is_refused_and_not_0(measure: Measure) -> None:
    point = Point(1.0)
    with pytest.raises(ValueError, match="expected a finite loss, got nan"):
        measure(point, lambda: point.w.sum() * math.nan, generator=seeded())


@EACH
def test_a_model_without_gradients_has_no_sharpness(measure: Measure) -> None:
    model = nn.Linear(2, 2).requires_grad_(requires_grad=False)
    with pytest.raises(NotApplicable, match="no parameter of the model has a gradient"):
        measure(model, lambda: model.weight.sum(), generator=seeded())


def test_impossible_options_are_refused() -> None:
    point = Point(1.0)
    with pytest.raises(ValueError, match="radius > 0 and steps >= 1, got radius=0"):
        worst_rise(point, point.quadratic(1), radius=0, generator=seeded())
    with pytest.raises(ValueError, match="steps=0"):
        worst_rise(point, point.quadratic(1), steps=0, generator=seeded())
    with pytest.raises(ValueError, match="'absolute' or 'filter', got 'layer'"):
        worst_rise(point, point.quadratic(1), scale="layer", generator=seeded())
    with pytest.raises(ValueError, match="at least 2, one gives no error, got 1"):
        hessian_trace(point, point.quadratic(1), draws=1, generator=seeded())


def test_curvature_in_units_of_the_filters() -> None:
    # filters of length 5 and 2: H = 2 I becomes 2 x 25 and 2 x 4, each for two weights
    model = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))

    def loss() -> Tensor:
        return model.weight.square().sum()

    top = largest_eigenvalue(model, loss, generator=seeded(), scale="filter")
    trace = hessian_trace(model, loss, generator=seeded(), draws=2, scale="filter")
    assert top.value == pytest.approx(50, rel=1e-5)
    assert trace.mean == pytest.approx(2 * (50 + 8))
