import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.class_separation import knn_accuracy, within_class_scatter


def clusters(n: int, classes: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=generator, dtype=torch.float64)
    return centres[labels] + 0.3 * torch.randn(n, d, generator=generator).double(), labels


def cross(radius: float) -> Tensor:
    """Four points with covariance radius^2 / 2 I around the origin."""
    return radius * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)


def test_two_clusters_worked_by_hand() -> None:
    spread = cross(math.sqrt(0.18))  # covariance .09 I; S_B = diag(1, 0)
    centre = torch.tensor([1.0, 0.0])
    features = torch.cat([spread + centre, spread - centre]) + 7
    labels = torch.arange(8) // 4
    assert within_class_scatter(features, labels) == pytest.approx(0.045, rel=1e-9)


def test_classes_weigh_equally() -> None:
    tight, wide = cross(0.0), cross(2.0)  # covariances 0 and 2 I
    centre = torch.tensor([1.0, 0.0])
    features = torch.cat([tight + centre, tight + centre, wide - centre])
    labels = torch.tensor([0] * 8 + [1] * 4)
    assert within_class_scatter(features, labels) == pytest.approx((0 + 2) / 2 / 2, rel=1e-9)


@given(st.integers(2, 5), st.integers(1, 8), st.integers(0, 2**31))
def test_scatter_is_what_numpys_pseudo_inverse_gives(classes: int, d: int, seed: int) -> None:
    features, labels = clusters(30 * classes, classes, d, seed)
    x, y = features.numpy(), labels.numpy()
    means = np.stack([x[y == c].mean(axis=0) for c in range(classes)])
    within = np.cov((x - means[y]).T, bias=True).reshape(d, d)
    between = np.cov(means.T, bias=True).reshape(d, d)
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / classes
    assert within_class_scatter(features, labels) == pytest.approx(expected, rel=1e-6)


@given(seed=st.integers(0, 2**31))
def test_scatter_does_not_depend_on_an_invertible_map(seed: int) -> None:
    # with as many classes as features and one more, the pseudo-inverse is an inverse
    features, labels = clusters(40, 4, 3, seed)
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64) + 5 * torch.eye(3)
    moved = within_class_scatter(features @ mixing + 1, labels)
    assert moved == pytest.approx(within_class_scatter(features, labels), rel=1e-6)


def test_duplicate_clusters_have_no_scatter() -> None:
    labels = torch.arange(12) % 3
    assert within_class_scatter(torch.randn(3, 5)[labels], labels) == pytest.approx(0, abs=1e-20)


def test_absent_classes_do_not_count() -> None:
    features, labels = clusters(40, 2, 3)
    assert within_class_scatter(features, labels * 7 + 2) == within_class_scatter(features, labels)


def test_one_class_or_equal_means_cannot_be_separated() -> None:
    with pytest.raises(NotApplicable, match="of one class"):
        within_class_scatter(torch.rand(4, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(NotApplicable, match="same mean"):
        within_class_scatter(torch.cat([cross(1.0), cross(0.1)]), torch.arange(8) // 4)
    with pytest.raises(NotApplicable, match="same mean"):
        within_class_scatter(torch.full((7, 2), 0.1), torch.tensor([0, 0, 0, 1, 1, 2, 2]))


def test_neighbours_vote_without_the_sample_itself() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    # each odd one out is outvoted; the last is told 0 by the three
    assert knn_accuracy(line, torch.tensor([0, 0, 0, 1]), k=3) == 0.75
    assert knn_accuracy(line, torch.tensor([0, 1, 0, 1]), k=1) == 0.0


def test_of_equal_votes_the_nearest_voter_wins() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [50.0], [51.0], [52.0]])
    # seen from 0 and 1: one vote for class 2 at distance 1, one for class 0 farther away
    labels = torch.tensor([2, 2, 0, 1, 1, 1])
    assert knn_accuracy(line, labels, k=2) == pytest.approx(5 / 6)


def test_more_votes_win_over_the_nearest() -> None:
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert knn_accuracy(line, torch.tensor([1, 0, 1, 1]), k=3) == 0.75


@given(st.integers(0, 2**31), st.sampled_from([1, 3, 9]))
def test_with_two_classes_and_odd_k_accuracy_is_sklearns(seed: int, k: int) -> None:
    features, labels = clusters(40, 2, 2, seed)
    classifier = KNeighborsClassifier(k).fit(features.numpy(), labels.numpy())
    expected = (classifier.predict(None) == labels.numpy()).mean()  # None: leave one out
    assert knn_accuracy(features, labels, k=k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 51])
def test_impossible_numbers_of_voters_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"in \[1, 50\], got {k}"):
        knn_accuracy(torch.rand(60, 2), torch.zeros(60, dtype=torch.int64), k=k)
