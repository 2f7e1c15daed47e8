import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.rank import (
    effective_rank,
    participation_ratio,
    singular_values,
    spectrum,
)

Measure = Callable[[Tensor], float]
BOTH = pytest.mark.parametrize(
    "measure", [effective_rank, participation_ratio], ids=["effective", "participation"]
)


def with_singular_values(values: list[float], *, n: int = 60, d: int = 12) -> Tensor:
    """Centred features [n, d] with these singular values, moved away from the origin."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(n, len(values), generator=generator, dtype=torch.float64)
    left = torch.linalg.qr(random - random.mean(dim=0))[0]  # its columns sum to 0
    right = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0]
    return left * torch.tensor(values, dtype=torch.float64) @ right[: len(values)] + 100


@BOTH
@pytest.mark.parametrize("k", [1, 2, 7])
def test_k_equal_singular_values_have_rank_k(measure: Measure, k: int) -> None:
    assert measure(with_singular_values([3.0] * k)) == pytest.approx(k, rel=1e-9)


def test_unequal_singular_values_worked_by_hand() -> None:
    features = with_singular_values([2.0, 1.0, 1.0])
    # shares 1/2, 1/4, 1/4: entropy 1.5 ln 2
    assert effective_rank(features) == pytest.approx(2**1.5, rel=1e-9)
    # squares 4, 1, 1: 36 / 18
    assert participation_ratio(features) == pytest.approx(2.0, rel=1e-9)


def test_features_are_centred() -> None:
    assert singular_values(torch.tensor([[9.0, 1.0], [9.0, 3.0]])).tolist() == pytest.approx(
        [math.sqrt(2), 0]
    )


@BOTH
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
def test_rotation_scale_and_shift_do_not_matter(measure: Measure, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    assert measure(scale * x @ rotation + 3) == pytest.approx(measure(x), rel=1e-9)


@BOTH
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 2**31))
def test_ranks_are_in_range(measure: Measure, n: int, d: int, seed: int) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    assert 1 - 1e-9 <= measure(x) <= min(n - 1, d) + 1e-6


SHAPES = pytest.mark.parametrize("shape", [(50, 7), (7, 50), (9, 9)], ids=["tall", "wide", "even"])


def by_svd(x: Tensor) -> Tensor:
    x = x.double()
    return torch.linalg.svdvals(x - x.mean(dim=0))


def entropy_rank(values: Tensor) -> float:
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()


@SHAPES
def test_singular_values_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(singular_values(x), by_svd(x), rtol=1e-9, atol=1e-6)
    assert effective_rank(x) == pytest.approx(entropy_rank(by_svd(x)), rel=1e-9)


@SHAPES
@pytest.mark.parametrize("decay", [1.0, 1e-2], ids=["equal", "steep"])
def test_rounding_of_what_is_not_there_adds_no_rank(shape: tuple[int, int], decay: float) -> None:
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(shape[0], 3, generator=generator, dtype=torch.float64)
    right = torch.randn(3, shape[1], generator=generator, dtype=torch.float64)
    x = left * decay ** torch.arange(3) @ right + 40  # 3 directions
    assert singular_values(x).count_nonzero() == 3
    assert effective_rank(x) == pytest.approx(entropy_rank(by_svd(x)), rel=1e-6)


@SHAPES
@pytest.mark.parametrize("outlier", [1.0, 1e9], ids=["none", "outlier"])
def test_some_samples_have_the_values_they_have_alone(
    shape: tuple[int, int], outlier: float
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 5
    x[3] *= outlier  # left out: it moves the mean and the sums of all
    ids = torch.tensor([i for i in range(shape[0]) if i not in (0, 3)])
    found = spectrum(x)(ids)
    expected = by_svd(x[ids])
    torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-6, atol=1e-6)
    assert not found[len(expected) :].any()


@BOTH
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8], ids=str)
def test_constant_features_have_no_rank(measure: Measure, value: float) -> None:
    with pytest.raises(NotApplicable, match="same features"):
        measure(torch.full((37, 5), value, dtype=torch.float64))  # the mean is rounded


def test_a_small_variation_on_a_large_constant_counts() -> None:
    x = torch.ones(37, 5, dtype=torch.float32)
    x[0, 0] += 1.2e-7  # one unit in the last place
    assert effective_rank(x) == pytest.approx(1.0, abs=1e-4)
