import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from measurements.functional import features as module
from measurements.functional.features import (
    nearest_neighbours,
    require_features,
    require_labelled_features,
)


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(2, 60), st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**31))
def test_neighbours_are_those_of_sklearn(n: int, d: int, k: int, seed: int) -> None:
    x, k = points(n, d, seed), min(k, n - 1)
    found = nearest_neighbours(x, k=k)
    # the tree subtracts; "brute" expands the square and cancels for close points
    distances, ids = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(x).kneighbors()
    np.testing.assert_allclose(found.distances, distances, 1e-9)
    np.testing.assert_array_equal(found.ids, ids)


def test_a_duplicate_is_at_exactly_0_however_far_from_the_origin() -> None:
    x = points(20, 5) + 1e6
    found = nearest_neighbours(torch.cat([x, x]), k=1)
    assert found.distances.flatten().tolist() == [0.0] * 40
    assert found.ids.flatten().tolist() == [*range(20, 40), *range(20)]


def test_close_points_are_ordered_by_their_true_distances() -> None:
    # from far away the squared distances of these are all rounded to the same
    x = torch.tensor([[0.0], [3e-9], [1e-9], [1e4]], dtype=torch.float64)
    assert nearest_neighbours(x, k=2).ids[0].tolist() == [2, 1]


def test_of_equal_distances_the_lower_id_comes_first() -> None:
    x = torch.tensor([[0.0], *[[1.0], [-1.0]] * 5])
    assert nearest_neighbours(x, k=4).ids[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("values", [1, 100, 10**6], ids=["rows", "some", "all"])
def test_blocks_of_rows_give_what_all_rows_give(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = points(30, 3)
    whole = nearest_neighbours(x, k=4)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", values)
    found = nearest_neighbours(x, k=4)
    assert found.ids.tolist() == whole.ids.tolist()
    torch.testing.assert_close(found.distances, whole.distances, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5,), r"expected features \[N, D\], got \[5\]; flatten"),
        ((5, 0), r"expected features \[N, D\], got \[5, 0\]"),
        ((1, 5), "expected at least 2 samples, got 1"),
    ],
    ids=["vector", "no_features", "one_sample"],
)
def test_what_is_no_matrix_of_samples_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_features(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_broken_features_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected finite features"):
        require_features(torch.tensor([[0.0], [value]]))


def test_labels_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[8, 3\] and \[7\]"):
        require_labelled_features(torch.zeros(8, 3), torch.zeros(7))


@pytest.mark.parametrize(("k", "message"), [(0, "at least 1, got 0"), (3, "at least 4 samples")])
def test_impossible_numbers_of_neighbours_are_refused(k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(torch.zeros(3, 2), k=k)


@pytest.mark.parametrize("left_out", [[4], list(range(1, 40))], ids=["one", "all that are near"])
def test_neighbours_among_some_are_those_they_have_alone(left_out: list[int]) -> None:
    points = torch.cat([torch.arange(40) ** 1.7, 300 + torch.arange(20) ** 2.3]).unsqueeze(1)
    ids = torch.tensor([i for i in range(60) if i not in left_out])
    alone = module.nearest_neighbours(points[ids], k=3).ids
    assert module.neighbours_of_any(points, k=3)(ids).tolist() == ids[alone].tolist()
