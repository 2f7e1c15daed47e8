import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from measurements.functional import margins
from measurements.functional.margins import boundary_distances, label_margins


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_label_is_compared_with_the_best_of_the_others() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [2.0, 2.0, 0.0]])
    assert label_margins(logits, torch.tensor([0, 1, 0])).tolist() == [0.5, -2.0, 0.0]


def test_a_broken_row_has_margin_0() -> None:
    logits = torch.tensor([[math.nan, 1.0], [math.inf, 1.0], [3.0, 1.0]])
    assert label_margins(logits, torch.tensor([0, 0, 0])).tolist() == [0.0, 0.0, 2.0]


@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 2**31))
def test_a_margin_is_positive_where_the_prediction_is_right(n: int, c: int, seed: int) -> None:
    logits = normal(n, c, seed=seed)
    labels = torch.randint(c, (n,), generator=torch.Generator().manual_seed(seed))
    right = logits.argmax(dim=1) == labels
    assert (label_margins(logits, labels) > 0).tolist() == right.tolist()
    head = normal(c, 3, seed=seed)
    assert (boundary_distances(logits, labels, head=head) > 0).tolist() == right.tolist()


def test_the_nearest_boundary_is_not_that_of_the_second_best_class() -> None:
    head = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 1.0]])
    # behind by 5 over 10, or by 2 over 1
    found = boundary_distances(torch.tensor([[5.0, 0.0, 3.0]]), torch.tensor([0]), head=head)
    assert found.tolist() == [0.5]


def test_a_step_of_the_distance_reaches_the_boundary() -> None:
    head, features = normal(4, 6), normal(5, 6, seed=1)
    logits = features @ head.T
    labels = logits.argmax(dim=1)
    distances = boundary_distances(logits, labels, head=head)
    others = torch.stack([logits[i] - logits[i, labels[i]] for i in range(5)])
    apart = torch.stack([(head - head[labels[i]]).norm(dim=1) for i in range(5)])
    nearest = (others / apart).nan_to_num(-torch.inf).argmax(dim=1)
    normals = head[nearest] - head[labels]
    step = distances.unsqueeze(1) * normals / normals.norm(dim=1, keepdim=True)
    margins_there = label_margins((features + step) @ head.T, labels)
    torch.testing.assert_close(margins_there, torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_scaling_the_last_layer_scales_the_margin_and_not_the_distance() -> None:
    head, features, labels = normal(4, 6), normal(5, 6, seed=1), torch.tensor([0, 1, 2, 3, 0])
    logits = features @ head.T
    torch.testing.assert_close(label_margins(3 * logits, labels), 3 * label_margins(logits, labels))
    torch.testing.assert_close(
        boundary_distances(3 * logits, labels, head=3 * head),
        boundary_distances(logits, labels, head=head),
    )


@pytest.mark.parametrize("values", [1, 9, 1000])
def test_blocks_of_rows_give_what_all_rows_give(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, labels, head = normal(10, 3), torch.arange(10) % 3, normal(3, 2)
    expected = [label_margins(logits, labels), boundary_distances(logits, labels, head=head)]
    monkeypatch.setattr(margins, "VALUES_AT_ONCE", values)
    found = [label_margins(logits, labels), boundary_distances(logits, labels, head=head)]
    assert [x.tolist() for x in found] == [x.tolist() for x in expected]


def test_what_has_no_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two classes, got 1"):
        label_margins(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels in \[0, 2\), got 0 to 2"):
        label_margins(torch.zeros(3, 2), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"labels in \[0, 2\), got -1 to 1"):
        label_margins(torch.zeros(2, 2), torch.tensor([-1, 1]))
    with pytest.raises(
        ValueError, match=r"expected weights \[2, D\] of the last layer, got \[3, 4\]"
    ):
        boundary_distances(torch.zeros(1, 2), torch.tensor([0]), head=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="two equal rows"):
        boundary_distances(torch.zeros(1, 2), torch.tensor([0]), head=torch.ones(2, 4))
