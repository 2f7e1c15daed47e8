import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from measurements.functional.ood_features import knn_scores, mahalanobis_scores


def drawn(seed: int, count: int, width: int = 3) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_distance_is_that_to_the_kth_neighbour_on_the_unit_circle() -> None:
    # angles of 0, 90 and 180 degrees: from (5, 0) the chords are 0, sqrt(2) and 2
    reference = torch.tensor([[0.5, 0.0], [0.0, 3.0], [-7.0, 0.0]])
    scores = [knn_scores(torch.tensor([[5.0, 0.0]]), reference=reference, k=k) for k in (1, 2, 3)]
    assert torch.cat(scores).tolist() == pytest.approx([0, -(2**0.5), -2])


def test_the_nearest_class_counts_and_the_shared_variance_is_the_unit() -> None:
    # means 0 and 10 of the first feature; variance about them: 4; the second feature: 1, mean 0
    reference = torch.tensor(
        [[-2.0, 1], [2, 1], [-2, -1], [2, -1], [8, 1], [12, 1], [8, -1], [12, -1]]
    )
    labels = torch.tensor([3, 3, 3, 3, 7, 7, 7, 7])
    features = torch.tensor([[0.0, 0], [4, 0], [10, 3], [6, 1]])
    scores = mahalanobis_scores(features, reference=reference, labels=labels)
    assert scores.tolist() == pytest.approx([0, -4, -9, -5])


@given(seed=st.integers(0, 99), count=st.integers(5, 40))
def test_neighbours_agree_with_scikit_learn(seed: int, count: int) -> None:
    reference, features = drawn(seed, count), drawn(seed + 100, 7)
    units = [x.double() / x.double().norm(dim=1, keepdim=True) for x in (reference, features)]
    found = NearestNeighbors(n_neighbors=4).fit(units[0].numpy()).kneighbors(units[1].numpy())[0]
    scores = knn_scores(features, reference=reference, k=4)
    torch.testing.assert_close(scores, -torch.from_numpy(found[:, 3]), rtol=1e-9, atol=1e-12)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), count=st.integers(10, 40))
def test_mahalanobis_agrees_with_scikit_learn(seed: int, count: int) -> None:
    reference, features = drawn(seed, count).double(), drawn(seed + 100, 7).double()
    labels = torch.arange(count) % 2
    means = torch.stack([reference[labels == one].mean(dim=0) for one in (0, 1)])
    about = EmpiricalCovariance(assume_centered=True).fit((reference - means[labels]).numpy())
    expected = [torch.from_numpy(about.mahalanobis((features - mean).numpy())) for mean in means]
    scores = mahalanobis_scores(features, reference=reference, labels=labels)
    torch.testing.assert_close(scores, -torch.stack(expected).amin(dim=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [1, 12, 30, 60])
def test_duplicates_and_ties_are_at_their_distance(k: int) -> None:
    # of 60 reference samples 30 are the one that is scored; the others are at a right angle
    reference = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 7.0]]).repeat(30, 1)
    scores = knn_scores(torch.tensor([[3.0, 4.0, 0.0]] * 2), reference=reference, k=k)
    assert scores.tolist() == ([0.0, 0.0] if k <= 30 else pytest.approx([-(2**0.5)] * 2))


def test_constant_features_are_all_at_distance_0() -> None:
    same = torch.full((40, 5), 0.1)
    assert knn_scores(same[:3], reference=same, k=25).tolist() == [0.0] * 3
    labels = torch.arange(40) % 12
    assert mahalanobis_scores(same[:3], reference=same, labels=labels).tolist() == [0.0] * 3


@pytest.mark.parametrize("k", [1, 20, 149, 150])
def test_candidates_hold_the_kth_neighbour(k: int) -> None:
    reference, features = drawn(0, 150, 6), drawn(1, 9, 6)
    reference[40:60] = reference[:20]
    units = [torch.nn.functional.normalize(x.double()) for x in (features, reference)]
    expected = (units[0][:, None] - units[1]).norm(dim=2).kthvalue(k).values
    scores = knn_scores(features, reference=reference, k=k)
    torch.testing.assert_close(scores, -expected, rtol=1e-13, atol=0)


def test_mahalanobis_is_exact_far_from_the_origin_and_with_many_classes() -> None:
    reference, labels = drawn(0, 400, 4).double(), torch.arange(400) % 40
    reference += labels[:, None] / 4
    near = mahalanobis_scores(reference[:9], reference=reference, labels=labels)
    far = mahalanobis_scores(reference[:9] + 1e5, reference=reference + 1e5, labels=labels)
    torch.testing.assert_close(far, near, rtol=1e-8, atol=0)


def test_a_dead_unit_changes_nothing() -> None:
    reference, labels = drawn(0, 30), torch.arange(30) % 3
    widened = [torch.cat([x, torch.zeros(len(x), 1)], dim=1) for x in (reference, drawn(1, 5))]
    plain = mahalanobis_scores(drawn(1, 5), reference=reference, labels=labels)
    scores = mahalanobis_scores(widened[1], reference=widened[0], labels=labels)
    torch.testing.assert_close(scores, plain)


def test_neighbours_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = knn_scores(drawn(1, 9), reference=drawn(0, 20), k=3)
    monkeypatch.setattr("measurements.functional.ood_features.VALUES_AT_ONCE", 50)
    assert torch.equal(knn_scores(drawn(1, 9), reference=drawn(0, 20), k=3), whole)


@pytest.mark.parametrize("k", [0, 21])
def test_a_neighbour_that_does_not_exist_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"expected k in 1\.\.20"):
        knn_scores(drawn(1, 9), reference=drawn(0, 20), k=k)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[9, 2\] and \[20, 3\]"):
        knn_scores(drawn(1, 9, 2), reference=drawn(0, 20), k=1)
