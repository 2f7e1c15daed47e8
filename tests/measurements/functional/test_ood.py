"""Detection of foreign images against scikit-learn, the Gaussian case, and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from measurements.functional.ood import detection, detection_draws

sizes = st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 20), st.integers(0, 2**31))


def drawn(size: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Scores of two sets, of few values so that they tie."""
    n, m, values, seed = size
    generator = torch.Generator().manual_seed(seed)
    own = torch.randint(values, (n,), generator=generator) + 1.0
    return own, torch.randint(values, (m,), generator=generator).float()


def together(own: Tensor, foreign: Tensor) -> tuple[np.ndarray, np.ndarray]:
    is_own = torch.cat([torch.ones(len(own)), torch.zeros(len(foreign))])
    return is_own.numpy(), torch.cat([own, foreign]).numpy()


def gaussian(apart: float, n: int = 200_000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(n, generator=generator, dtype=torch.float64) + apart
    return own, torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("apart", "auroc", "fpr95"), [(1, 0.760250, 0.740489), (2, 0.921350, 0.361240)]
)
def test_gaussian_scores_have_the_known_values(apart: int, auroc: float, fpr95: float) -> None:
    found = detection(*gaussian(apart))
    assert found.auroc == pytest.approx(auroc, abs=0.004)
    assert found.fpr95 == pytest.approx(fpr95, abs=0.008)


@given(size=sizes)
def test_areas_agree_with_scikit_learn(size: tuple[int, int, int, int]) -> None:
    own, foreign = drawn(size)
    is_own, scores = together(own, foreign)
    found = detection(own, foreign)
    assert found.auroc == pytest.approx(roc_auc_score(is_own, scores))
    assert found.aupr_in == pytest.approx(average_precision_score(is_own, scores))
    assert found.aupr_out == pytest.approx(average_precision_score(1 - is_own, -scores))


@given(size=sizes)
def test_fpr95_is_that_of_the_largest_sufficient_threshold(
    size: tuple[int, int, int, int],
) -> None:
    own, foreign = drawn(size)
    enough = [t for t in own.unique() if (own >= t).double().mean() >= 0.95 - 1e-12]
    expected = (foreign >= max(enough)).double().mean().item()
    assert detection(own, foreign).fpr95 == pytest.approx(expected)


def test_nineteen_of_twenty_are_enough() -> None:
    own = torch.arange(1.0, 21.0)  # the threshold is 2: 19 of 20 are let in
    assert detection(own, torch.tensor([0.5, 1.0, 2.0, 3.0])).fpr95 == 0.5


@given(size=sizes)
def test_negated_scores_have_the_area_that_is_left(size: tuple[int, int, int, int]) -> None:
    own, foreign = drawn(size)
    assert detection(-own, -foreign).auroc == pytest.approx(1 - detection(own, foreign).auroc)


def test_the_same_set_twice_cannot_be_told_apart() -> None:
    scores = torch.arange(10.0)
    found = detection(scores, scores)
    assert found.auroc == 0.5
    assert found.fpr95 == 1.0  # of 10 samples, all 10 must be let in


def test_sets_that_do_not_overlap_are_told_apart() -> None:
    found = detection(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]))
    assert (found.auroc, found.fpr95, found.aupr_in, found.aupr_out) == (1, 0, 1, 1)


def test_float64_scores_are_not_rounded() -> None:
    own, foreign = torch.tensor([1.0 + 1e-12], dtype=torch.float64), torch.tensor([1.0])
    assert detection(own, foreign).auroc == 1


def test_draws_scatter_about_the_value_as_theory_says() -> None:
    own, foreign = gaussian(1.0, n=400)
    generator = torch.Generator().manual_seed(1)
    draws = detection_draws(own, foreign, draws=400, generator=generator)["auroc"]
    value = detection(own, foreign).auroc
    # Hanley & McNeil (1982), with q1 = a / (2 - a) and q2 = 2 a^2 / (1 + a)
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + 399 * (q1 + q2 - 2 * value**2)) / 400**2
    assert draws.mean().item() == pytest.approx(value, abs=0.005)
    assert draws.std().item() == pytest.approx(variance**0.5, rel=0.2)


def test_equal_seeds_draw_equal_samples() -> None:
    own, foreign = gaussian(1.0, n=50)
    draws = [
        detection_draws(*pair, draws=5, generator=torch.Generator().manual_seed(3))
        for pair in ((own, foreign), (own.exp(), foreign.exp()))
    ]
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in draws[0])


def test_both_sets_are_resampled() -> None:
    own, foreign = torch.tensor([1.0, 3.0]), torch.tensor([2.0])
    generator = torch.Generator().manual_seed(0)
    of_own = detection_draws(own, foreign, draws=50, generator=generator)["auroc"]
    of_foreign = detection_draws(foreign, own, draws=50, generator=generator)["auroc"]
    assert of_own.unique().tolist() == of_foreign.unique().tolist() == [0.0, 0.5, 1.0]


def test_a_score_of_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="without NaN"):
        detection(torch.tensor([torch.nan]), torch.ones(1))


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        detection(torch.ones(1), torch.empty(0))
