"""Calibration error, by hand at the edges of bins, and against torchmetrics elsewhere."""

import math
from collections.abc import Callable

import pytest
import torch
import torchmetrics
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from measurements.functional.calibration import (
    calibration_bins,
    calibration_error,
    confidence_gap,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
)

sizes = st.tuples(st.integers(1, 80), st.integers(2, 8), st.integers(0, 2**31))
ERRORS = [calibration_error, maximum_calibration_error, debiased_calibration_error, confidence_gap]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def hits(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def predictions(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Probabilities and labels from (samples, classes, seed)."""
    n, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    probs = (torch.randn(n, classes, generator=generator) * 2).softmax(dim=1)
    return probs, torch.randint(classes, (n,), generator=generator)


def top_label(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Confidence and correctness of `predictions`."""
    probs, labels = predictions(size)
    confidence, predicted = probs.max(dim=1)
    return confidence, predicted == labels


def test_a_confidence_of_exactly_one_shares_the_last_bin() -> None:
    # bin (0.9, 1]: mean confidence 0.975, accuracy 0.5
    probs = torch.tensor([[0.05, 0.95], [0.0, 1.0]])
    error = expected_calibration_error(probs, torch.tensor([1, 0]), bins=10)
    assert error == pytest.approx(0.475, abs=1e-7)


@pytest.mark.skipif(
    not torchmetrics.__version__.startswith("1.9."), reason="describes torchmetrics 1.9"
)
def test_torchmetrics_puts_a_confidence_of_one_into_a_bin_of_its_own() -> None:
    # why it is no oracle at that edge: (0.05 + 1) / 2
    theirs = binary_calibration_error(torch.tensor([0.95, 1.0]), torch.tensor([1, 0]), n_bins=10)
    assert theirs.item() == pytest.approx(0.525, abs=1e-6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    # (0.4, 0.5] holds 0.5 -> gap 0.5; (0.5, 0.6] holds 0.55 -> gap 0.45. [low, high) gives 0.025
    error = calibration_error(column(0.5, 0.55), hits(0, 1), bins=10)
    assert error == pytest.approx(0.475)


@pytest.mark.parametrize(
    ("confidence", "high"),
    [
        (0.0, 0.25),
        (1e-9, 0.25),
        (0.25, 0.25),
        (0.2501, 0.5),
        (0.75, 0.75),
        (1.0, 1.0),
        (1 + 5e-7, 1.0),
    ],
)
def test_every_confidence_has_one_of_four_bins(confidence: float, high: float) -> None:
    found = calibration_bins(column(confidence), hits(1), bins=4)
    assert found.high.tolist() == [high]
    assert found.low.tolist() == [high - 0.25]


def test_bins_without_a_sample_are_left_out() -> None:
    found = calibration_bins(column(0.3, 0.35, 0.9, 1.0, 1.0), hits(0, 1, 1, 1, 0), bins=5)
    assert found.low.tolist() == pytest.approx([0.2, 0.8])
    assert found.high.tolist() == pytest.approx([0.4, 1.0])
    assert found.counts.tolist() == [2, 3]
    assert found.shares.tolist() == pytest.approx([0.4, 0.6])
    assert found.confidence.tolist() == pytest.approx([0.325, 2.9 / 3])
    assert found.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert found.gaps.tolist() == pytest.approx([0.175, -0.3])


def test_bins_weigh_by_their_size_and_the_maximum_does_not() -> None:
    # (0.2, 0.4]: one sample, gap 0.7; (0.8, 1.0]: three, accuracy 2/3, confidence 0.9
    confidence, correct = column(0.3, 0.9, 0.9, 0.9), hits(1, 1, 1, 0)
    expected = 0.25 * 0.7 + 0.75 * (0.9 - 2 / 3)
    assert calibration_error(confidence, correct, bins=5) == pytest.approx(expected)
    assert maximum_calibration_error(confidence, correct, bins=5) == pytest.approx(0.7)
    assert confidence_gap(confidence, correct) == pytest.approx(0.75 - 0.75)


def test_the_maximum_may_be_an_overconfident_bin() -> None:
    error = maximum_calibration_error(column(0.3, 0.9), hits(1, 0), bins=5)
    assert error == pytest.approx(0.9)


def test_the_debiased_error_worked_by_hand() -> None:
    # (0.2, 0.4]: n 1, dropped; (0.4, 0.6]: n 2, acc 1/2, conf 0.6: 0.01 - 0.25 / 1
    # (0.8, 1.0]: n 5, acc 4/5, conf 0.9: 0.01 - 0.16 / 4;  weights 2/8 and 5/8
    confidence = column(0.3, 0.6, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9)
    correct = hits(1, 1, 0, 1, 1, 1, 1, 0)
    expected = 2 / 8 * (0.01 - 0.25) + 5 / 8 * (0.01 - 0.04)
    assert debiased_calibration_error(confidence, correct, bins=5) == pytest.approx(expected)


def test_the_debiased_error_of_single_samples_is_zero_for_want_of_knowledge() -> None:
    assert debiased_calibration_error(column(0.1, 0.9), hits(1, 1), bins=2) == 0.0


@pytest.mark.parametrize(("confidence", "accuracy"), [(0.7, 0.9), (0.95, 0.8), (1.0, 0.0)])
def test_a_constant_confidence_errs_by_its_distance_from_accuracy(
    confidence: float, accuracy: float
) -> None:
    correct = torch.arange(100) < round(accuracy * 100)
    constant = torch.full((100,), confidence, dtype=torch.float64)
    gap = abs(confidence - accuracy)
    assert calibration_error(constant, correct) == pytest.approx(gap)
    assert maximum_calibration_error(constant, correct) == pytest.approx(gap)
    assert confidence_gap(constant, correct) == pytest.approx(confidence - accuracy)


def test_a_perfect_model_that_is_certain_has_no_error() -> None:
    probs = torch.eye(4)
    assert expected_calibration_error(probs, torch.arange(4)) == 0.0


def test_binning_bias_is_removed_for_a_calibrated_model() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, debiased = [], []
    for _ in range(300):
        confidence = torch.rand(200, generator=generator, dtype=torch.float64) / 2 + 0.5
        correct = torch.rand(200, generator=generator, dtype=torch.float64) < confidence
        plain.append(calibration_error(confidence, correct))
        debiased.append(debiased_calibration_error(confidence, correct))
    assert min(plain) > 0.01
    mean, spread = column(*debiased).mean(), column(*debiased).std() / math.sqrt(300)
    assert abs(mean) < 4 * spread  # expected value 0
    assert min(debiased) < 0 < max(debiased)


@given(sizes, st.integers(1, 20))
def test_errors_agree_with_torchmetrics_away_from_the_edges(
    size: tuple[int, int, int], bins: int
) -> None:
    probs, labels = predictions(size)
    mean = multiclass_calibration_error(probs, labels, size[1], n_bins=bins, norm="l1")
    largest = multiclass_calibration_error(probs, labels, size[1], n_bins=bins, norm="max")
    ours = expected_calibration_error(probs, labels, bins=bins)
    assert ours == pytest.approx(mean.item(), abs=1e-5)
    ours = maximum_calibration_error(*top_label(size), bins=bins)
    assert ours == pytest.approx(largest.item(), abs=1e-5)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@given(size=sizes)
def test_errors_ignore_the_order_of_samples(
    error: Callable[[Tensor, Tensor], float], size: tuple[int, int, int]
) -> None:
    confidence, correct = top_label(size)
    assert error(confidence.flip(0), correct.flip(0)) == pytest.approx(
        error(confidence, correct), abs=1e-12
    )


@given(sizes, st.integers(1, 20))
def test_errors_are_ordered_and_in_range(size: tuple[int, int, int], bins: int) -> None:
    confidence, correct = top_label(size)
    expected = calibration_error(confidence, correct, bins=bins)
    largest = maximum_calibration_error(confidence, correct, bins=bins)
    assert abs(confidence_gap(confidence, correct)) <= expected + 1e-12
    assert expected <= largest + 1e-12
    assert largest <= 1
    squared = debiased_calibration_error(confidence, correct, bins=bins)
    assert -0.25 <= squared <= largest**2 + 1e-12


@given(sizes)
def test_one_bin_makes_the_error_the_confidence_gap(size: tuple[int, int, int]) -> None:
    confidence, correct = top_label(size)
    gap = abs(confidence_gap(confidence, correct))
    assert calibration_error(confidence, correct, bins=1) == pytest.approx(gap, abs=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan], ids=["negative", "above_one", "nan"])
def test_what_is_no_confidence_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"expected confidences in \[0, 1\]"):
        calibration_error(column(0.5, value), hits(1, 0))


def test_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        calibration_error(column(0.5), hits(1), bins=0)


def test_probabilities_and_labels_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[2, 2\] and \[2, 1\]"):
        expected_calibration_error(torch.eye(2), torch.zeros(2, 1))
