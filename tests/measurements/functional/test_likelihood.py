"""Likelihood and Brier score, by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import Tensor

from measurements.functional.likelihood import brier_score, brier_scores, negative_log_likelihood
from recording.columns import record_columns

sizes = st.tuples(st.integers(1, 60), st.integers(2, 9), st.integers(0, 2**31))


def rows(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Logits and labels from (samples, classes, seed)."""
    n, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator) * 3
    return logits, torch.randint(classes, (n,), generator=generator)


def test_a_uniform_prediction_of_ten_classes_has_the_known_scores() -> None:
    columns = record_columns(torch.zeros(7, 10), torch.arange(7))
    nll = negative_log_likelihood(columns["log_p_label"])
    assert nll == pytest.approx(2.302585, abs=5e-7)
    assert brier_score(columns["log_p_label"], columns["sum_p2"]) == pytest.approx(0.9, abs=1e-7)


def test_two_samples_worked_by_hand() -> None:
    # p = (1/4, 3/4): label 1 -> (1/4)^2 + (1/4)^2 = 1/8; label 0 -> (3/4)^2 + (3/4)^2 = 9/8
    log_p, sum_p2 = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.625, 0.625])
    assert brier_scores(log_p, sum_p2).tolist() == pytest.approx([0.125, 1.125])
    assert brier_score(log_p, sum_p2) == pytest.approx(0.625)
    assert negative_log_likelihood(log_p) == pytest.approx(-math.log(0.1875) / 2)


def test_a_certain_hit_never_scores_below_zero() -> None:
    columns = record_columns(torch.tensor([[17.0, 0.0], [16.5, 0.1]]), torch.tensor([0, 0]))
    assert brier_scores(columns["log_p_label"], columns["sum_p2"]).min() >= 0


@given(sizes)
def test_scores_agree_with_sklearn_and_with_the_definition(size: tuple[int, int, int]) -> None:
    logits, labels = rows(size)
    columns = record_columns(logits, labels)
    probs = logits.double().softmax(dim=1)
    nll = log_loss(labels.numpy(), probs.numpy(), labels=np.arange(size[1]))
    # scikit-learn clips probabilities at 2.2e-16; random ones stay above
    assert negative_log_likelihood(columns["log_p_label"]) == pytest.approx(nll, rel=1e-6)
    truth = torch.nn.functional.one_hot(labels, size[1])
    brier = (probs - truth).square().sum(dim=1).mean().item()
    ours = brier_score(columns["log_p_label"], columns["sum_p2"])
    assert ours == pytest.approx(brier, abs=2e-7)


@given(sizes)
def test_scores_stay_in_range_and_ignore_the_order(size: tuple[int, int, int]) -> None:
    columns = record_columns(*rows(size))
    log_p, sum_p2 = columns["log_p_label"], columns["sum_p2"]
    scores = brier_scores(log_p, sum_p2)
    assert scores.min() >= 0
    assert scores.max() <= 2 + 1e-6
    assert negative_log_likelihood(log_p) >= 0
    assert brier_score(log_p.flip(0), sum_p2.flip(0)) == pytest.approx(scores.mean().item())
