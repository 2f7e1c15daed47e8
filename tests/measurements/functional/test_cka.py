from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.cka import StreamingCKA, biased_linear_cka, linear_cka

Measure = Callable[[Tensor, Tensor], float]
ALL = pytest.mark.parametrize(
    "measure", [linear_cka, biased_linear_cka], ids=["unbiased", "biased"]
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic_by_the_book(x: Tensor, y: Tensor) -> float:
    """Song et al.: from N x N kernels with an empty diagonal."""
    n, k, q = len(x), x @ x.T, y @ y.T
    k, q = k.fill_diagonal_(0), q.fill_diagonal_(0)
    one = torch.ones(n, dtype=x.dtype)
    sums = (one @ k @ one) * (one @ q @ one) / ((n - 1) * (n - 2))
    return ((k @ q).trace() + sums - 2 / (n - 2) * (one @ k @ q @ one)).item() / (n * (n - 3))


def cka_by_the_book(*batches: tuple[Tensor, Tensor]) -> float:
    joint = sum(hsic_by_the_book(x, y) for x, y in batches)
    own = sum(hsic_by_the_book(x, x) for x, _ in batches)
    return joint / (own * sum(hsic_by_the_book(y, y) for _, y in batches)) ** 0.5


def test_independent_wide_features_are_alike_to_the_biased_form_alone() -> None:
    x, y = normal(500, 2000), normal(500, 2000, seed=1)
    assert biased_linear_cka(x, y) == pytest.approx(0.80, abs=0.005)
    assert abs(linear_cka(x, y)) < 0.02


@ALL
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10), d=st.sampled_from([3, 12, 40]))
def test_rotation_scale_and_shift_do_not_matter(
    measure: Measure, seed: int, scale: float, d: int
) -> None:
    x = normal(12, d, seed=seed)
    rotation = torch.linalg.qr(normal(d, d, seed=seed + 1))[0]
    moved = scale * x @ rotation + normal(d, seed=seed + 2)
    assert measure(x, moved) == pytest.approx(1.0, abs=1e-12)
    other = normal(12, 5, seed=seed + 3)
    assert measure(moved, other) == pytest.approx(measure(x, other), abs=1e-12)


@pytest.mark.parametrize("d", [(2, 3), (40, 3), (40, 50)], ids=["narrow", "mixed", "wide"])
def test_unbiased_cka_is_that_of_the_book_whichever_way_it_is_computed(d: tuple[int, int]) -> None:
    x, y = normal(10, d[0]) + 3, normal(10, d[1], seed=1)
    y[:, 0] += x[:, 0]
    assert linear_cka(x, y) == pytest.approx(cka_by_the_book((x, y)), abs=1e-12)


def test_batches_give_the_ratio_of_summed_hsics() -> None:
    x, y = normal(40, 6), normal(40, 4, seed=1)
    y[:, :2] += x[:, :2]
    found = StreamingCKA()
    batches = list(zip(x.split(10), y.split(10), strict=True))
    for one, other in batches:
        found.add(one, other)
    assert found.value == pytest.approx(cka_by_the_book(*batches), abs=1e-12)
    assert found.samples == 40


def test_batches_weigh_by_their_samples() -> None:
    x, y = normal(14, 3), normal(14, 3, seed=1) + normal(14, 3)
    found = StreamingCKA()
    for rows in (slice(0, 10), slice(10, 14)):
        found.add(x[rows], y[rows])
    sums = [
        10 * hsic_by_the_book(a[:10], b[:10]) + 4 * hsic_by_the_book(a[10:], b[10:])
        for a, b in ((x, y), (x, x), (y, y))
    ]
    assert found.value == pytest.approx(sums[0] / (sums[1] * sums[2]) ** 0.5, abs=1e-12)


def test_one_batch_is_the_whole() -> None:
    x, y = normal(20, 3), normal(20, 5, seed=1)
    found = StreamingCKA()
    found.add(x, y)
    assert found.value == pytest.approx(linear_cka(x, y), rel=1e-12)


def test_leaving_batches_out_gives_an_interval_that_contains_0_for_independent_features() -> None:
    found = StreamingCKA()
    for seed in range(40):
        found.add(normal(32, 20, seed=seed), normal(32, 20, seed=seed + 1000))
    estimate = found.estimate(generator=torch.Generator().manual_seed(0))
    assert estimate.value == found.value
    assert estimate.interval.low < 0 < estimate.interval.high
    assert 0.001 < estimate.standard_error < 0.05


def test_cka_is_symmetric() -> None:
    x, y = normal(10, 3), normal(10, 5, seed=1)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), abs=1e-14)


@ALL
def test_constant_features_are_like_nothing(measure: Measure) -> None:
    with pytest.raises(NotApplicable, match="does not vary"):
        measure(normal(7, 3), torch.full((7, 2), 0.1, dtype=torch.float64))  # the mean is rounded


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of the same samples, got \[5, 2\] and \[6, 2\]"):
        linear_cka(normal(5, 2), normal(6, 2))
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        linear_cka(normal(3, 2), normal(3, 2))
    with pytest.raises(ValueError, match="flatten or pool"):
        linear_cka(normal(5, 2, 2, 2), normal(5, 2, 2, 2))
    with pytest.raises(ValueError, match="no batch was added"):
        _ = StreamingCKA().value
