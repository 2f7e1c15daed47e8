"""Selective prediction, by hand and against all orders of tied samples."""

import itertools
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor

from measurements.functional.selective import RiskCoverage, augrc, aurc, eaurc, risk_coverage

sizes = st.tuples(st.integers(1, 60), st.integers(2, 30), st.integers(0, 2**31))


def ranked(n: int, errors: int) -> tuple[Tensor, Tensor]:
    """Scores in perfect order, all errors last."""
    return torch.arange(n, 0, -1, dtype=torch.float64), torch.arange(n) < n - errors


def samples(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Scores with ties, of `values` different ones, and correctness, from (n, values, seed)."""
    n, values, seed = size
    generator = torch.Generator().manual_seed(seed)
    score = torch.randint(values, (n,), generator=generator).double()
    return score, torch.rand(n, generator=generator) < 0.7


def curve(*correct: int) -> RiskCoverage:
    """Curve of samples in descending order of score."""
    return risk_coverage(-torch.arange(len(correct)), torch.tensor(correct, dtype=torch.bool))


def test_a_thousand_samples_in_perfect_order_have_the_known_area() -> None:
    score, correct = ranked(1000, 200)
    assert aurc(score, correct) == pytest.approx(0.0215851, abs=5e-8)
    assert augrc(score, correct) == pytest.approx(0.02, abs=1e-12)
    assert eaurc(score, correct) == 0.0


def test_a_thousand_samples_in_reversed_order_have_the_known_area() -> None:
    score, correct = ranked(1000, 200)
    assert aurc(-score, correct) == pytest.approx(0.5214880, abs=5e-8)
    assert augrc(-score, correct) == pytest.approx(0.18, abs=1e-12)
    assert eaurc(-score, correct) == pytest.approx(0.5214880 - 0.0215851, abs=1e-7)


def test_a_score_that_knows_nothing_has_the_error_rate_as_area() -> None:
    _, correct = ranked(1000, 200)
    constant = torch.zeros(1000)
    assert aurc(constant, correct) == pytest.approx(0.2, abs=1e-12)
    assert augrc(constant, correct) == pytest.approx(0.1, abs=1e-12)


def test_four_samples_worked_by_hand() -> None:
    # right, wrong, right, wrong: risks 0, 1/2, 1/3, 2/4; best order: 0, 0, 1/3, 2/4
    found = curve(1, 0, 1, 0)
    assert found.errors.tolist() == [0, 1, 1, 2]
    assert found.risks.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert found.risk == 0.5
    assert found.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.eaurc == pytest.approx(1 / 2 / 4)
    # trapezoids of 0, 0, 1, 1, 2 errors: (0 + 1/2 + 1 + 3/2) / 16
    assert found.augrc == pytest.approx(3 / 16)


def test_tied_samples_share_their_errors() -> None:
    # one right alone, then three tied with one error among them
    score = torch.tensor([2.0, 1.0, 1.0, 1.0])
    found = risk_coverage(score, torch.tensor([True, False, True, True]))
    assert found.errors.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))
def test_ties_are_the_mean_over_all_orders(n: int, values: int, seed: int) -> None:
    score, correct = samples((n, values, seed))
    orders = [torch.tensor(order) for order in itertools.permutations(range(n))]
    # a stable sort keeps each of the orders among equals; every one is equally frequent
    each = [
        curve(*correct[order][score[order].argsort(descending=True, stable=True)].tolist())
        for order in orders
    ]
    found = risk_coverage(score, correct)
    assert found.aurc == pytest.approx(statistics.mean(one.aurc for one in each))
    assert found.eaurc == pytest.approx(statistics.mean(one.eaurc for one in each))
    assert found.augrc == pytest.approx(statistics.mean(one.augrc for one in each))


@given(sizes)
def test_augrc_follows_from_the_auroc(size: tuple[int, int, int]) -> None:
    score, correct = samples(size)
    correct[0], correct[-1] = True, len(correct) == 1
    risk = 1 - correct.double().mean().item()
    auroc = roc_auc_score(correct, score) if risk > 0 else 1.0
    expected = (1 - auroc) * risk * (1 - risk) + risk**2 / 2
    assert augrc(score, correct) == pytest.approx(expected, abs=1e-12)


@given(sizes)
def test_areas_are_in_range_and_between_best_and_worst_order(size: tuple[int, int, int]) -> None:
    score, correct = samples(size)
    found = risk_coverage(score, correct)
    best = risk_coverage(correct.double(), correct)
    worst = risk_coverage(-correct.double(), correct)
    assert 0 <= best.aurc <= found.aurc + 1e-12
    assert found.aurc <= worst.aurc + 1e-12
    assert worst.aurc <= 1
    assert 0 <= found.augrc <= 0.5
    assert found.eaurc == pytest.approx(found.aurc - best.aurc, abs=1e-12)


@given(sizes)
def test_the_order_of_samples_does_not_matter(size: tuple[int, int, int]) -> None:
    score, correct = samples(size)
    torch.testing.assert_close(
        risk_coverage(score.flip(0), correct.flip(0)).errors, risk_coverage(score, correct).errors
    )


@given(sizes)
def test_a_monotone_transform_of_the_score_changes_nothing(size: tuple[int, int, int]) -> None:
    score, correct = samples(size)
    cubed = risk_coverage(score**3 - 7, correct)
    torch.testing.assert_close(cubed.errors, risk_coverage(score, correct).errors)


def test_neighbours_in_double_precision_are_no_tie() -> None:
    score = torch.tensor([1.0, 1.0 + 2**-52], dtype=torch.float64)
    assert risk_coverage(score, torch.tensor([False, True])).errors.tolist() == [0, 1]


def test_infinite_scores_are_ordered_and_tie() -> None:
    score = torch.tensor([0.0, torch.inf, torch.inf, -torch.inf])
    errors = risk_coverage(score, torch.tensor([True, True, False, False])).errors
    assert errors.tolist() == [0.5, 1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("coverage", "risk"),
    [(0.1, 0.0), (0.2, 0.0), (0.21, 0.5), (0.4, 0.5), (0.6, 1 / 3), (0.8, 0.25), (1.0, 0.4)],
)
def test_risk_at_a_coverage_answers_at_least_that_share(coverage: float, risk: float) -> None:
    # errors 0 1 1 1 2 among the 1 .. 5 best
    found = curve(1, 0, 1, 1, 0)
    assert found.risk_at(coverage) == pytest.approx(risk)


def test_seven_per_cent_of_a_hundred_samples_are_seven() -> None:
    # 0.07 * 100 is 7.000000000000001 in floating point; the eighth is the only error
    assert curve(*[1] * 7, 0, *[1] * 92).risk_at(0.07) == 0.0


@pytest.mark.parametrize(
    ("risk", "coverage"),
    [(0.0, 0.2), (0.2, 0.2), (0.25, 0.8), (0.3, 0.8), (0.4, 1.0), (1.0, 1.0)],
)
def test_coverage_at_a_risk_is_the_largest_that_keeps_it(risk: float, coverage: float) -> None:
    assert curve(1, 0, 1, 1, 0).coverage_at(risk) == coverage


def test_no_coverage_keeps_a_risk_that_is_always_exceeded() -> None:
    assert curve(0, 0, 1).coverage_at(0.5) == 0.0


def test_tied_thirds_of_an_error_do_not_miss_a_whole_one() -> None:
    # 49 ties with one error: the sum of 49 fractions 1/49 may end above 1
    found = risk_coverage(torch.zeros(49), torch.arange(49) > 0)
    assert found.coverage_at(1 / 49) == 1.0


@pytest.mark.parametrize("coverage", [0.0, -0.5, 1.01])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage is a share"):
        curve(1, 0).risk_at(coverage)


@pytest.mark.parametrize("risk", [-0.1, 1.01])
def test_a_risk_that_is_no_share_is_refused(risk: float) -> None:
    with pytest.raises(ValueError, match="risk is a share"):
        curve(1, 0).coverage_at(risk)


def test_a_score_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="without NaN"):
        aurc(torch.tensor([1.0, torch.nan]), torch.tensor([True, True]))


@pytest.mark.parametrize("right", [True, False], ids=["all_right", "all_wrong"])
def test_models_that_are_always_right_or_always_wrong_have_no_excess(right: bool) -> None:
    score, correct = torch.randn(20), torch.full((20,), right)
    assert aurc(score, correct) == (0.0 if right else 1.0)
    assert eaurc(score, correct) == 0.0
    assert augrc(score, correct) == (0.0 if right else 0.5)
