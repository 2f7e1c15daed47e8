from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.disentanglement import (
    _concentration,
    attribute_predictability,
    dci,
    mutual_information_gap,
)

Score = Callable[[Tensor, Tensor], float]
SCORES = pytest.mark.parametrize(
    "score", [mutual_information_gap, attribute_predictability], ids=["mig", "sap"]
)


def grid(*sizes: int, repeats: int = 1) -> Tensor:
    """All combinations of factors with these numbers of values."""
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).repeat(repeats, 1)


def mixed(factors: Tensor) -> Tensor:
    """Factors turned by a rotation that gives each code a part of each: 1/3, 2/3, 2/3."""
    turn = torch.tensor([[1.0, 2, 2], [2, 1, -2], [2, -2, 1]], dtype=torch.float64) / 3
    return factors.double() @ turn


def noise(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_factors_themselves_are_disentangled() -> None:
    factors = grid(4, 5, 3, repeats=8)
    found = dci(factors.double(), factors)
    assert found.disentanglement == pytest.approx(1.0, abs=1e-6)
    assert found.completeness == pytest.approx(1.0, abs=1e-6)
    assert found.informativeness == 1.0


@SCORES
def test_the_factors_themselves_have_the_best_score_in_any_order_and_unit(score: Score) -> None:
    factors = grid(4, 5, 3)
    assert score(factors.double(), factors) == pytest.approx(1.0, abs=1e-9)
    turned = factors[:, [2, 0, 1]] * torch.tensor([-3.0, 0.1, 7.0]) + 1
    assert score(turned, factors) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("values", [20, 21, 40], ids=str)
def test_a_factor_of_many_values_gets_a_bin_for_each(values: int) -> None:
    factors = grid(values, 3)
    assert mutual_information_gap(factors.double(), factors) == pytest.approx(1.0, abs=1e-9)


def test_rotated_factors_are_told_but_not_disentangled() -> None:
    factors = grid(4, 4, 4, repeats=6)
    found = dci(mixed(factors), factors)
    assert found.disentanglement < 0.5
    assert found.completeness < 0.5
    assert found.informativeness > 0.9
    assert mutual_information_gap(mixed(factors), factors) < 0.5
    assert attribute_predictability(mixed(factors), factors) == pytest.approx(0.0, abs=1e-9)


def test_noise_tells_nothing() -> None:
    factors = grid(4, 4, repeats=40)
    codes = noise(len(factors), 3)
    found = dci(codes, factors)
    assert max(found.disentanglement, found.completeness) < 0.05
    assert found.informativeness == pytest.approx(0.25, abs=0.08)
    assert mutual_information_gap(codes, factors) < 0.03
    assert attribute_predictability(codes, factors) < 0.03


def test_two_codes_for_one_factor_are_disentangled_and_incomplete() -> None:
    factors = grid(4, 4, repeats=8)
    codes = torch.cat([factors, factors], dim=1).double()
    found = dci(codes, factors)
    assert found.disentanglement == pytest.approx(1.0, abs=1e-6)
    # two of four codes share a factor: 1 - ln 2 / ln 4, if the forest takes them in turn
    assert found.completeness == pytest.approx(0.5, abs=0.1)
    assert mutual_information_gap(codes, factors) == 0.0
    assert attribute_predictability(codes, factors) == 0.0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 0.0], [0.0, 5.0]], 1.0),
        ([[1.0, 1.0], [2.0, 2.0]], 0.0),
        ([[3.0, 0.0], [0.5, 0.5]], 0.75),
        ([[1.0, 0.0], [0.0, 0.0]], 1.0),
    ],
    ids=["one_each", "both_alike", "weighted", "dead_code"],
)
def test_importances_worked_by_hand(rows: list[list[float]], expected: float) -> None:
    assert _concentration(torch.tensor(rows)) == pytest.approx(expected)


def test_codes_that_never_vary_tell_nothing() -> None:
    factors = grid(3, 3, repeats=4)
    with pytest.raises(NotApplicable, match="no code tells anything"):
        dci(torch.zeros(36, 2), factors)
    assert mutual_information_gap(torch.zeros(36, 2), factors) == 0.0
    assert attribute_predictability(torch.full((36, 2), 0.1), factors) == 0.0


def test_the_gap_is_relative_to_the_entropy_of_the_factor() -> None:
    # the code tells the lower from the upper half of four values: ln 2 of ln 4
    factor = grid(4, 1)[:, :1].repeat(2, 1)
    codes = torch.cat([factor // 2, torch.tensor([[0], [1]]).repeat_interleave(4, 0)], dim=1)
    assert mutual_information_gap(codes.double(), factor) == pytest.approx(0.5)


@given(st.integers(0, 2**31))
def test_mutual_information_is_that_of_sklearn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(20, (60, 2), generator=generator)
    codes[0], codes[1] = 0, 19  # so that each value is a bin
    factor = torch.randint(3, (60, 1), generator=generator)
    factor[:2] = torch.tensor([[0], [1]])
    best, second = sorted(
        (mutual_info_score(codes[:, i].numpy(), factor[:, 0].numpy()) for i in range(2)),
        reverse=True,
    )
    entropy = mutual_info_score(factor[:, 0].numpy(), factor[:, 0].numpy())
    found = mutual_information_gap(codes.double(), factor)
    assert found == pytest.approx((best - second) / entropy, abs=1e-9)


def test_predictability_is_a_gap_of_squared_correlations() -> None:
    factors = grid(5, 5)
    codes = factors.double() + noise(25, 2)
    squared = torch.corrcoef(torch.cat([codes, factors.double()], dim=1).T)[:2, 2:] ** 2
    expected = (squared.amax(dim=0) - squared.amin(dim=0)).mean().item()
    assert attribute_predictability(codes, factors) == pytest.approx(expected, rel=1e-9)


def test_equal_seeds_give_equal_scores() -> None:
    factors = grid(3, 3, repeats=6)
    codes = factors + noise(54, 2)
    assert dci(codes, factors, seed=1) == dci(codes, factors, seed=1)
    assert dci(codes, factors, seed=1) != dci(codes, factors, seed=2)


def test_what_cannot_be_scored_is_refused() -> None:
    factors = grid(3, 3)
    with pytest.raises(
        ValueError, match=r"factors \[N, F\] of classes, got \[9, 2\] and \[9, 2\] torch.f"
    ):
        mutual_information_gap(factors.double(), factors.double())
    with pytest.raises(ValueError, match=r"got \[9, 2\] and \[9\]"):
        mutual_information_gap(factors.double(), factors[:, 0])
    with pytest.raises(ValueError, match=r"one value alone in columns \[1\]"):
        mutual_information_gap(factors.double(), factors * torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="at least 2 codes to compare, got 1"):
        attribute_predictability(factors[:, :1].double(), factors)
    with pytest.raises(ValueError, match="at least 2 codes to compare, got 1"):
        mutual_information_gap(factors[:, :1].double(), factors)
    with pytest.raises(ValueError, match="at least 2 codes and 2 factors, got 2 and 1"):
        dci(factors.double(), factors[:, :1])
