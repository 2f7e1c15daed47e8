import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.intrinsic_dimension import mle_dimension, two_nn_dimension
from measurements.functional.jackknife import delete_group_jackknife

Measure = Callable[[Tensor], float]
BOTH = pytest.mark.parametrize("measure", [two_nn_dimension, mle_dimension], ids=["twonn", "mle"])


def gaussian(d: int, *, n: int = 5000, seed: int = 0) -> Tensor:
    """A Gaussian in `d` of 50 dimensions, in a random position."""
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(50, 50, generator=generator))[0]
    return torch.randn(n, d, generator=generator) @ rotation[:d]


def test_a_square_with_its_corner_worked_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [100.0, 0.0]])
    # 3, 4 | 3, 5 | 4, 5 | 97, 100
    logs = math.log(4 / 3) + math.log(5 / 3) + math.log(5 / 4) + math.log(100 / 97)
    assert two_nn_dimension(x) == pytest.approx(3 / logs)


def test_three_neighbours_worked_by_hand() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    # 1 3 7 | 1 2 6 | 2 3 4 | 4 6 7: ln of last over the first two
    logs = math.log(7 * 7 / 3) + math.log(6 * 3) + math.log(2 * 4 / 3) + math.log(7 / 4 * 7 / 6)
    assert mle_dimension(x, k=3) == pytest.approx((4 * 2 - 1) / logs)


# tolerances: five times the spread over seeds, around the known bias in high dimensions
@pytest.mark.parametrize(
    ("d", "expected", "tolerance"), [(2, 1.99, 0.06), (5, 5.1, 0.3), (10, 9.8, 0.6)]
)
def test_a_gaussian_in_50_dimensions_has_its_own(d: int, expected: float, tolerance: float) -> None:
    assert two_nn_dimension(gaussian(d)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "expected", "tolerance"), [(2, 1.99, 0.06), (5, 5.1, 0.3), (10, 9.8, 0.6)]
)
def test_a_gaussian_has_its_dimension_on_average_over_seeds(
    d: int, expected: float, tolerance: float
) -> None:
    found = [two_nn_dimension(gaussian(d, seed=seed)) for seed in range(5)]
    assert sum(found) / 5 == pytest.approx(expected, abs=tolerance)


def test_more_neighbours_find_the_dimension_too() -> None:
    assert mle_dimension(gaussian(5, n=2000)) == pytest.approx(5.0, abs=0.3)


@BOTH
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_rotation_scale_shift_and_order_do_not_matter(
    measure: Measure, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    moved = (scale * x @ rotation + 3)[torch.randperm(40, generator=generator)]
    assert measure(moved) == pytest.approx(measure(x), rel=1e-6)


@BOTH
def test_duplicates_count_once(measure: Measure) -> None:
    x = gaussian(3, n=100)
    assert measure(torch.cat([x, x[:30], x[:5]])) == pytest.approx(measure(x), rel=1e-9)


@BOTH
def test_a_collapsed_model_has_no_dimension(measure: Measure) -> None:
    with pytest.raises(NotApplicable, match="only 1 samples have features of their own"):
        measure(torch.ones(30, 4))


def test_equally_far_neighbours_have_no_dimension() -> None:
    with pytest.raises(NotApplicable, match="equally far"):
        two_nn_dimension(torch.eye(4))


def test_one_neighbour_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        mle_dimension(torch.rand(9, 2), k=1)


def test_leaving_samples_out_gives_an_interval_around_the_dimension() -> None:
    x = gaussian(2, n=600)
    found = delete_group_jackknife(
        lambda ids: {"twonn": two_nn_dimension(x[ids])},
        len(x),
        generator=torch.Generator().manual_seed(0),
    )["twonn"]
    # the standard error of the estimate is about d / sqrt N = .08, more for its dependent samples
    assert 0.04 < found.standard_error < 0.3
    assert found.interval.low < 2 < found.interval.high
