"""Adaptive, class-wise and smooth calibration errors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from measurements.functional.calibration import calibration_error
from measurements.functional.calibration_family import (
    adaptive_calibration_error,
    classwise_calibration_error,
    smooth_calibration_error,
)

ERRORS = [adaptive_calibration_error, smooth_calibration_error]
samples = st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**31))


def drawn(size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Confidences in [0, 1] with ties, and hits."""
    n, values, seed = size
    generator = torch.Generator().manual_seed(seed)
    confidence = torch.randint(values + 1, (n,), generator=generator) / values
    return confidence, torch.rand(n, generator=generator) < confidence


def test_equal_mass_is_equal_width_on_even_confidences() -> None:
    confidence = (torch.arange(60) + 0.5) / 60
    correct = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.5
    assert adaptive_calibration_error(confidence, correct) == pytest.approx(
        calibration_error(confidence, correct), abs=1e-7
    )


def test_samples_of_equal_confidence_stay_in_the_part_of_the_first() -> None:
    # 6 samples in 3 parts of 2: ranks 1 and 2 tie across an edge, so both stay in the first part
    confidence = torch.tensor([0.1, 0.4, 0.4, 0.7, 0.8, 0.9])
    correct = torch.tensor([0, 1, 0, 1, 0, 0]).bool()
    # parts {.1, .4, .4}, {.7}, {.8, .9}: |.1| + |.3| + |-1.7| over 6
    found = adaptive_calibration_error(confidence, correct, bins=3)
    assert found == pytest.approx(2.1 / 6, abs=1e-7)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize(("confidence", "hits"), [(0.8, 5), (0.3, 9), (1.0, 10), (0.5, 5)])
def test_one_confidence_has_its_gap(
    error: Callable[..., float], confidence: float, hits: int
) -> None:
    found = error(torch.full((10,), confidence), torch.arange(10) < hits)
    assert found == pytest.approx(abs(confidence - hits / 10), abs=1e-6)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@given(size=samples)
def test_an_error_is_a_fraction_and_ignores_the_order(
    error: Callable[..., float], size: tuple[int, int, int]
) -> None:
    confidence, correct = drawn(size)
    found = error(confidence, correct)
    order = torch.randperm(len(correct), generator=torch.Generator().manual_seed(1))
    assert 0 <= found <= 1
    assert error(confidence[order], correct[order]) == pytest.approx(found, abs=1e-9)


@given(size=samples)
def test_no_error_without_bins_is_below_the_gap_of_the_whole(size: tuple[int, int, int]) -> None:
    confidence, correct = drawn(size)
    gap = abs((confidence.double() - correct.double()).mean().item())
    assert smooth_calibration_error(confidence, correct) >= gap - 1e-9
    assert adaptive_calibration_error(confidence, correct) >= gap - 1e-9


def reflected_mass(confidence: np.ndarray, residual: np.ndarray, width: float) -> float:
    """The integral by its definition: a Gaussian with images of each sample at the mirrors."""
    places = (np.arange(2000) + 0.5) / 2000
    images = [sign * confidence + shift for shift in (-4, -2, 0, 2, 4) for sign in (1, -1)]
    kernel = sum(np.exp(-(((places[:, None] - one) / width) ** 2) / 2) for one in images)
    return float(np.abs(kernel @ residual).mean() / width / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_smooth_error_is_the_width_that_equals_its_integral(seed: int) -> None:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.4, 1, 80)
    # too sure above .7, not sure enough below: the residuals cancel, the more the wider
    correct = generator.uniform(size=80) < np.where(confidence > 0.7, 0.5, 0.95)
    found = smooth_calibration_error(torch.tensor(confidence), torch.tensor(correct))
    mass = reflected_mass(confidence, (correct - confidence) / 80, found)
    assert mass == pytest.approx(found, abs=1e-3)  # confidences are rounded to 1/1024


def test_the_smooth_error_of_a_perfect_model_is_zero() -> None:
    assert smooth_calibration_error(torch.ones(5), torch.ones(5).bool()) == 0.0


def by_class(probs: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Class-wise error in plain loops."""
    total = 0.0
    for c in range(probs.shape[1]):
        for b in range(bins):
            low, high = b / bins, (b + 1) / bins
            chosen = (probs[:, c] <= high) & ((probs[:, c] > low) | (b == 0))
            total += abs(((labels == c) - probs[:, c])[chosen].sum()) / len(labels)
    return total / probs.shape[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_class_wise_error_agrees_with_plain_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, 4, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    probs = logits.double().softmax(dim=1).numpy()
    expected = by_class(probs, labels.numpy(), 15)
    assert classwise_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_the_class_wise_error_looks_at_every_class() -> None:
    # p = (2/3, 1/3), labels half and half: each class is off by 1/6
    logits = torch.tensor([[math.log(2), 0.0]] * 4)
    found = classwise_calibration_error(logits, torch.tensor([0, 0, 1, 1]))
    assert found == pytest.approx(1 / 6, abs=1e-7)


def test_a_probability_on_an_edge_belongs_to_the_lower_bin() -> None:
    # p = (.5, .25, .25), (.25, .25, .5), labels 0 and 2, bins (0, .5], (.5, 1]: all in the first.
    # Sums of hit - p by class: .25, -.5, .25
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]).double().log()
    found = classwise_calibration_error(logits, torch.tensor([0, 2]), bins=2)
    assert found == pytest.approx(1.0 / 2 / 3)


def test_a_broken_row_is_a_uniform_prediction() -> None:
    logits = torch.full((2, 2), torch.nan)
    assert classwise_calibration_error(logits, torch.tensor([0, 1])) == 0


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(11) % 3
    whole = classwise_calibration_error(logits, labels)
    monkeypatch.setattr("measurements.functional.rows.VALUES_AT_ONCE", 6)
    assert classwise_calibration_error(logits, labels) == pytest.approx(whole, abs=1e-12)


def test_a_number_of_bins_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        adaptive_calibration_error(torch.ones(1), torch.ones(1).bool(), bins=0)
