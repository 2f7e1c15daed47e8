import pytest
import torch

from measurements.functional.checks import require_columns, require_logits_and_labels


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((8,), (8,)), ((8, 3), (8, 1)), ((8, 3), (7,)), ((8, 3, 2), (8,))],
    ids=["vector", "column_of_labels", "too_few_labels", "image"],
)
def test_shapes_that_would_broadcast_are_refused(
    logits: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected logits \[N, C\] and labels \[N\], got"):
        require_logits_and_labels(torch.zeros(logits), torch.zeros(labels))


def test_logits_with_their_labels_pass() -> None:
    require_logits_and_labels(torch.zeros(8, 3), torch.zeros(8))


@pytest.mark.parametrize(
    "other", [(3, 1), (1,), (4,), ()], ids=["column", "broadcastable", "longer", "scalar"]
)
def test_columns_of_other_shapes_are_refused_by_name(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one length, got score \[3\], correct \["):
        require_columns(score=torch.zeros(3), correct=torch.zeros(other))


def test_a_matrix_is_no_column_even_when_all_are_alike() -> None:
    with pytest.raises(ValueError, match=r"got score \[3, 2\]"):
        require_columns(score=torch.zeros(3, 2))


def test_no_sample_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        require_columns(score=torch.zeros(0))
    with pytest.raises(ValueError, match="at least one sample"):
        require_logits_and_labels(torch.zeros(0, 3), torch.zeros(0))
