import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from measurements.functional.power_iteration import dominant_eigenvalue


def test_two_steps_worked_by_hand() -> None:
    matrix = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    start = torch.ones(2, dtype=torch.float64)
    # v = (1, 1)/sqrt 2: value (3 + 1)/2, residual of (3, 1)/sqrt 2 - 2 v = (1, -1)/sqrt 2
    found = dominant_eigenvalue(matrix.mv, start, iterations=1)
    assert (found.value, found.residual, found.iterations) == pytest.approx((2.0, 1.0, 1))
    # v = (3, 1)/sqrt 10: value (27 + 1)/10
    assert dominant_eigenvalue(matrix.mv, start, iterations=2).value == pytest.approx(2.8)


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_the_value_is_within_the_residual_of_an_eigenvalue(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, n, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    start = torch.randn(n, generator=generator, dtype=torch.float64)
    found = dominant_eigenvalue(matrix.mv, start, iterations=7, tolerance=1e-9)
    distances = (torch.linalg.eigvalsh(matrix) - found.value).abs()
    assert distances.min() <= found.residual + 1e-9


def test_it_stops_at_a_negative_eigenvalue_too() -> None:
    found = dominant_eigenvalue(lambda v: -5 * v, torch.tensor([1.0, 2.0]))
    assert found.iterations == 1
    assert found.value == pytest.approx(-5.0)


def test_it_stops_when_the_residual_is_small_and_says_when() -> None:
    found = dominant_eigenvalue(lambda v: 5 * v, torch.tensor([1.0, 2.0]))
    assert found.iterations == 1
    assert found.value == pytest.approx(5.0)
    matrix = torch.tensor([[1.0, 0.0], [0.0, 0.99]])
    slow = dominant_eigenvalue(matrix.mv, torch.ones(2), iterations=5, tolerance=1e-6)
    assert slow.iterations == 5
    assert slow.residual > 1e-6


def test_the_zero_operator_has_eigenvalue_0() -> None:
    found = dominant_eigenvalue(torch.zeros_like, torch.ones(3))
    assert (found.value, found.residual, found.iterations) == (0.0, 0.0, 1)


def test_what_has_no_eigenvalue_is_refused() -> None:
    with pytest.raises(ValueError, match="finite products"):
        dominant_eigenvalue(lambda v: v * math.nan, torch.ones(3))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        dominant_eigenvalue(torch.zeros_like, torch.ones(3), iterations=0)
