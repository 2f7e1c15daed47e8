"""Accuracy in the whole and by class, by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, recall_score, top_k_accuracy_score
from torch import Tensor

from measurements.functional.accuracy import (
    WorstClass,
    class_collapse,
    macro_accuracy,
    nonfinite_share,
    per_class_recall,
    topk_accuracy,
    worst_class,
)
from recording.columns import record_columns

sizes = st.tuples(st.integers(1, 60), st.integers(2, 9), st.integers(0, 2**31))

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 3, 3, 3, 3])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 0, 3, 3, -1, 0])  # recall 3/4, 1/2, none, 1/2


def decisions(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Predicted and true classes from (samples, classes, seed)."""
    n, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(-1, classes, (n,), generator=generator),
        torch.randint(classes, (n,), generator=generator),
    )


@pytest.mark.parametrize(("k", "share"), [(1, 0.2), (2, 0.4), (4, 0.6), (5, 0.8), (10, 0.8)])
def test_topk_counts_ranks_below_k(k: int, share: float) -> None:
    # the last is a broken row of ten classes: rank 10, wrong for every k
    assert topk_accuracy(torch.tensor([0, 1, 2, 4, 10]), k=k) == share


def test_a_guess_for_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        topk_accuracy(torch.tensor([0]), k=0)


def test_constant_logits_have_the_accuracy_of_chance() -> None:
    rank = record_columns(torch.zeros(50, 10), torch.arange(10).repeat(5))["rank"]
    assert topk_accuracy(rank) == 0.1
    assert topk_accuracy(rank, k=5) == 0.5


def test_a_model_of_nan_has_accuracy_zero() -> None:
    rank = record_columns(torch.full((10, 10), torch.nan), torch.arange(10))["rank"]
    assert topk_accuracy(rank, k=10) == 0.0


@given(st.integers(1, 60), st.integers(3, 9), st.integers(1, 8), st.integers(0, 2**31))
def test_topk_agrees_with_sklearn(n: int, classes: int, k: int, seed: int) -> None:
    k = min(k, classes - 1)  # beyond, scikit-learn warns that the answer is 1
    _, labels = decisions((n, classes, seed))
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    expected = top_k_accuracy_score(labels, logits, k=k, labels=np.arange(classes))
    assert topk_accuracy(record_columns(logits, labels)["rank"], k=k) == pytest.approx(expected)


def test_recall_is_known_only_for_classes_that_occur() -> None:
    assert per_class_recall(PREDICTED, LABELS) == {0: 0.75, 1: 0.5, 3: 0.5}


def test_of_two_worst_classes_the_lower_is_named() -> None:
    assert worst_class(PREDICTED, LABELS) == WorstClass(label=1, recall=0.5, count=2)


@pytest.mark.parametrize(("min_count", "label"), [(2, 1), (3, 3), (4, 3)])
def test_small_classes_are_passed_over(min_count: int, label: int) -> None:
    assert worst_class(PREDICTED, LABELS, min_count=min_count).label == label


def test_a_small_class_is_passed_over_even_where_the_large_ones_are_perfect() -> None:
    found = worst_class(torch.tensor([1, 1, 1]), torch.tensor([0, 1, 1]), min_count=2)
    assert found == WorstClass(label=1, recall=1.0, count=2)


def test_asking_for_larger_classes_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="no class has 5 samples; the largest has 4"):
        worst_class(PREDICTED, LABELS, min_count=5)


def test_macro_accuracy_is_the_mean_recall_of_classes_that_occur() -> None:
    assert macro_accuracy(PREDICTED, LABELS) == pytest.approx((0.75 + 0.5 + 0.5) / 3)


@given(sizes)
def test_recall_agrees_with_sklearn(size: tuple[int, int, int]) -> None:
    predicted, labels = decisions(size)
    present = labels.unique().tolist()
    expected = recall_score(labels, predicted, labels=present, average=None, zero_division=np.nan)
    assert list(per_class_recall(predicted, labels).values()) == pytest.approx(expected.tolist())
    assert macro_accuracy(predicted, labels) == pytest.approx(expected.mean())
    assert worst_class(predicted, labels).recall == pytest.approx(expected.min())


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@given(sizes)
def test_macro_accuracy_agrees_with_sklearns_balanced_accuracy(size: tuple[int, int, int]) -> None:
    predicted, labels = decisions(size)
    expected = balanced_accuracy_score(labels, predicted)
    assert macro_accuracy(predicted, labels) == pytest.approx(expected)


def test_on_balanced_data_macro_accuracy_is_accuracy() -> None:
    labels = torch.arange(4).repeat(25)
    predicted = labels.where(torch.arange(100) % 7 != 0, 0)
    assert macro_accuracy(predicted, labels) == pytest.approx(
        (predicted == labels).double().mean().item()
    )


@given(sizes)
def test_the_order_of_samples_does_not_matter(size: tuple[int, int, int]) -> None:
    predicted, labels = decisions(size)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    assert per_class_recall(predicted[order], labels[order]) == per_class_recall(predicted, labels)
    assert class_collapse(predicted[order]) == class_collapse(predicted)


@given(sizes)
def test_a_model_that_answers_with_the_label_is_perfect(size: tuple[int, int, int]) -> None:
    _, labels = decisions(size)
    assert macro_accuracy(labels, labels) == 1.0
    assert worst_class(labels, labels).recall == 1.0


@pytest.mark.parametrize(
    ("predicted", "share"),
    [
        ([3, 3, 3], 1.0),
        ([0, 1, 2, 3], 0.25),
        ([-1, -1, 5, 0], 0.25),
        ([-1, -1, 0, 0, 0], 0.6),
        ([-1, -1], 0.0),
    ],
    ids=["constant", "uniform", "broken_most", "broken_some", "all_broken"],
)
def test_collapse_is_the_share_of_the_most_predicted_class(
    predicted: list[int], share: float
) -> None:
    assert class_collapse(torch.tensor(predicted)) == share


@pytest.mark.parametrize(("finite", "share"), [([True] * 4, 0.0), ([False, True], 0.5)])
def test_nonfinite_share_counts_broken_rows(finite: list[bool], share: float) -> None:
    assert nonfinite_share(torch.tensor(finite)) == share
