"""Exemplars: modal labels by hand, Welch's t against scipy."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from measurements.functional.exemplars import class_tests, exemplars, modal_labels, welch_p_value
from measurements.functional.multiplicity import holm
from measurements.functional.paired import churn

populations = st.tuples(st.integers(1, 7), st.integers(1, 20), st.integers(0, 2**31))


def drawn(size: tuple[int, int, int]) -> torch.Tensor:
    models, n, seed = size
    return torch.randint(-1, 4, (models, n), generator=torch.Generator().manual_seed(seed))


@given(size=populations)
def test_the_modal_label_is_the_most_frequent_and_lowest(size: tuple[int, int, int]) -> None:
    predicted = drawn(size)
    found = modal_labels(predicted)
    ties = 0
    for column, label in zip(predicted.T.tolist(), found.labels.tolist(), strict=True):
        counts = Counter(column)
        most = [value for value, count in counts.items() if count == max(counts.values())]
        assert label == min(most)
        ties += len(most) > 1
    assert found.ties == ties


@given(size=populations)
def test_equal_populations_have_no_exemplars(size: tuple[int, int, int]) -> None:
    found = exemplars(drawn(size), baseline=drawn(size))
    assert found.share == 0


@given(seeds=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)), n=st.integers(1, 30))
def test_one_model_each_is_churn(seeds: tuple[int, int], n: int) -> None:
    now, before = (drawn((1, n, seed)) for seed in seeds)
    found = exemplars(now, baseline=before)
    assert found.share == churn(now[0], baseline=before[0])
    assert found.is_churn


@pytest.mark.parametrize(("models", "baselines", "is_churn"), [(5, 5, 0), (4, 5, 1), (5, 4, 1)])
def test_populations_below_five_are_called_churn(
    models: int, baselines: int, is_churn: bool
) -> None:
    found = exemplars(drawn((models, 3, 0)), baseline=drawn((baselines, 3, 0)))
    assert found.is_churn == is_churn


def test_a_majority_must_move() -> None:
    before = torch.tensor([[0, 0]] * 5)
    after = torch.tensor([[1, 1], [1, 1], [1, 0], [0, 0], [0, 0]])
    assert exemplars(after, baseline=before).chosen.tolist() == [True, False]


def test_ties_of_both_populations_are_counted() -> None:
    tied, clear = torch.tensor([[0], [1]]), torch.tensor([[0], [0]])
    assert exemplars(tied, baseline=tied).ties == 2
    assert exemplars(tied, baseline=clear).ties == 1


def test_populations_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        exemplars(drawn((2, 3, 0)), baseline=drawn((2, 4, 0)))


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**31))
def test_welch_agrees_with_scipy(n: int, m: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, generator=generator, dtype=torch.float64)
    second = 3 * torch.randn(m, generator=generator, dtype=torch.float64) + 1
    expected = ttest_ind(first.numpy(), second.numpy(), equal_var=False).pvalue
    assert welch_p_value(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("second", "p"), [(0.5, 1.0), (0.25, 0.0)])
def test_samples_that_do_not_vary(second: float, p: float) -> None:
    assert welch_p_value(torch.full((3,), 0.5), torch.full((4,), second)) == p


def test_a_class_is_tested_on_its_recall_beyond_accuracy() -> None:
    labels = torch.tensor([0, 0, 0, 2, 2, 2])
    generator = torch.Generator().manual_seed(0)
    now, before = (torch.randint(3, (models, 6), generator=generator) for models in (6, 5))

    def beyond(predicted: torch.Tensor, label: int) -> torch.Tensor:
        hits = (predicted == labels).double()
        return hits[:, labels == label].mean(dim=1) - hits.mean(dim=1)

    found = class_tests(now, labels, baseline=before)
    assert [one.label for one in found] == [0, 2]
    for one in found:
        first, second = beyond(now, one.label), beyond(before, one.label)
        expected = ttest_ind(first.numpy(), second.numpy(), equal_var=False).pvalue
        assert one.p_value == pytest.approx(expected)
        assert one.shift == pytest.approx((first.mean() - second.mean()).item())
    assert [one.adjusted for one in found] == holm([one.p_value for one in found])


def test_a_loss_shared_by_all_classes_moves_none() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    before = torch.tensor([[0, 0, 1, 1]] * 3)
    after = torch.tensor([[0, 1, 1, 0]] * 3)  # each class loses half
    assert [one.shift for one in class_tests(after, labels, baseline=before)] == [0, 0]


def test_one_model_cannot_be_tested() -> None:
    one = torch.zeros(1, 2).long()
    with pytest.raises(ValueError, match="two models in each population, got 1 and 1"):
        class_tests(one, torch.tensor([0, 1]), baseline=one)
