"""Flips and McNemar's test, by hand and against scipy."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.paired import (
    McNemar,
    WorstDelta,
    agreement,
    churn,
    mcnemar,
    negative_flip_rate,
    nfr_relative,
    positive_flip_rate,
    unnecessary_churn,
    worst_class_delta,
)

sizes = st.tuples(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**31))

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 4])
BEFORE = torch.tensor([0, 0, 1, 0, 1, 0, 1, 2, 2, 0])  # right: 3/4, 2/3, 2/2, 0/1
NOW = torch.tensor([0, 1, 2, 0, 1, 1, 2, 2, -1, 4])  # right: 2/4, 2/3, 1/2, 1/1


def decisions(size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions of model and baseline and labels, from (samples, classes, seed)."""
    n, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    guesses = torch.randint(-1, classes, (2, n), generator=generator)
    right = torch.rand(2, n, generator=generator) < 0.6
    now, before = labels.where(right, guesses)
    return now, before, labels


def discordant(broken: int, mended: int, both: int = 3) -> tuple[Tensor, Tensor]:
    """Correctness of model and baseline with these counts."""
    model = [False] * broken + [True] * mended + [True] * both
    base = [True] * broken + [False] * mended + [True] * both
    return torch.tensor(model), torch.tensor(base)


def test_ten_broken_and_two_mended_samples_have_the_published_p_value() -> None:
    model, base = discordant(10, 2)
    found = mcnemar(model, baseline=base)
    assert (found.broken, found.mended) == (10, 2)
    assert found.p_value == pytest.approx(0.038574, abs=5e-7)
    assert found.p_value == 2 * (1 + 12 + 66) / 2**12


@pytest.mark.parametrize("both", [1, 1000])
def test_without_a_discordant_sample_there_is_no_evidence(both: int) -> None:
    model, base = discordant(0, 0, both)
    assert mcnemar(model, baseline=base) == McNemar(broken=0, mended=0, p_value=1.0)


def test_as_many_broken_as_mended_is_no_evidence_either() -> None:
    model, base = discordant(4, 4)
    assert mcnemar(model, baseline=base).p_value == 1.0


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_scipys_exact_binomial_test(broken: int, mended: int) -> None:
    model, base = discordant(broken, mended)
    expected = stats.binomtest(broken, broken + mended).pvalue if broken + mended else 1.0
    found = mcnemar(model, baseline=base)
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert mcnemar(base, baseline=model).p_value == found.p_value


def test_mcnemar_stays_exact_where_powers_of_two_leave_the_floats() -> None:
    model, base = discordant(5000, 4700)
    expected = stats.binomtest(5000, 9700).pvalue
    assert mcnemar(model, baseline=base).p_value == pytest.approx(expected, rel=1e-9)


def test_ten_samples_worked_by_hand() -> None:
    now, before = NOW == LABELS, BEFORE == LABELS
    # changed: 1, 2, 5, 6, 8, 9; broken: 1, 6, 8; mended: 5, 9
    assert churn(NOW, baseline=BEFORE) == 0.6
    assert agreement(NOW, baseline=BEFORE) == 0.4
    assert negative_flip_rate(now, baseline=before) == 0.3
    assert positive_flip_rate(now, baseline=before) == 0.2
    assert nfr_relative(now, baseline=before) == pytest.approx(3 / 7)
    assert unnecessary_churn(NOW, LABELS, baseline=BEFORE) == pytest.approx(0.5)


def test_the_published_example_of_relevant_churn() -> None:
    now, before = discordant(310, 0, both=9173 - 310)
    assert nfr_relative(now, baseline=before) == pytest.approx(0.0338, abs=5e-5)


def test_relevant_churn_needs_a_sample_that_was_right() -> None:
    with pytest.raises(NotApplicable, match="no sample right"):
        nfr_relative(torch.tensor([True]), baseline=torch.tensor([False]))


@given(sizes)
def test_flips_account_for_the_change_of_accuracy(size: tuple[int, int, int]) -> None:
    now, before, labels = decisions(size)
    right_now, right_before = now == labels, before == labels
    lost = right_before.double().mean().item() - right_now.double().mean().item()
    negative = negative_flip_rate(right_now, baseline=right_before)
    positive = positive_flip_rate(right_now, baseline=right_before)
    changed = churn(now, baseline=before)
    assert negative - positive == pytest.approx(lost, abs=1e-12)
    assert abs(lost) <= changed + 1e-12
    assert negative + positive <= changed + 1e-12
    assert agreement(now, baseline=before) == pytest.approx(1 - changed)
    extra = unnecessary_churn(now, labels, baseline=before)
    assert extra == pytest.approx(changed - abs(lost), abs=1e-12)
    assert 0 <= extra <= 1


@given(sizes)
def test_a_model_against_itself_changes_nothing(size: tuple[int, int, int]) -> None:
    now, _, labels = decisions(size)
    right = now == labels
    assert churn(now, baseline=now) == 0
    assert agreement(now, baseline=now) == 1
    assert negative_flip_rate(right, baseline=right) == 0
    assert positive_flip_rate(right, baseline=right) == 0
    assert unnecessary_churn(now, labels, baseline=now) == 0
    assert mcnemar(right, baseline=right).p_value == 1
    assert worst_class_delta(now, labels, baseline=now).delta == 0


@given(sizes)
def test_the_order_of_samples_does_not_matter(size: tuple[int, int, int]) -> None:
    now, before, labels = (column.flip(0) for column in decisions(size))
    model, base, truth = decisions(size)
    assert churn(now, baseline=before) == churn(model, baseline=base)
    found = worst_class_delta(now, labels, baseline=before)
    assert found == worst_class_delta(model, truth, baseline=base)


def test_the_worst_delta_is_that_of_the_class_that_lost_most() -> None:
    # deltas -1/4, 0, -1/2, and +1 for class 4
    found = worst_class_delta(NOW, LABELS, baseline=BEFORE)
    assert found == WorstDelta(label=2, delta=-0.5, count=2)


@pytest.mark.parametrize(("min_count", "label"), [(2, 2), (3, 0), (4, 0)])
def test_small_classes_are_passed_over(min_count: int, label: int) -> None:
    found = worst_class_delta(NOW, LABELS, baseline=BEFORE, min_count=min_count)
    assert found.label == label


def test_of_equal_deltas_the_lowest_class_is_named() -> None:
    labels = torch.tensor([3, 3, 1, 1])
    found = worst_class_delta(torch.tensor([3, 0, 0, 1]), labels, baseline=labels)
    assert found == WorstDelta(label=1, delta=-0.5, count=2)


def test_asking_for_larger_classes_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="no class has 5 samples; the largest has 4"):
        worst_class_delta(NOW, LABELS, baseline=BEFORE, min_count=5)


@pytest.mark.parametrize("rate", [churn, agreement, mcnemar, negative_flip_rate, nfr_relative])
def test_columns_that_would_broadcast_are_refused(rate: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="one length"):
        rate(torch.ones(3, 1, dtype=torch.bool), baseline=torch.ones(3, dtype=torch.bool))
