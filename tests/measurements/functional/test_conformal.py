"""Split conformal prediction: quantiles by hand, coverage by its law, sets by definition."""

import math
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.conformal import (
    Method,
    aps_scores,
    conformal_threshold,
    lac_scores,
    split_conformal,
)
from measurements.functional.folds import second_half


@pytest.mark.parametrize(
    ("n", "miss", "k"),
    [
        (9, 0.1, 9),
        (19, 0.1, 18),
        (20, 0.1, 19),
        (99, 0.05, 95),
        (4, 0.5, 3),
        (1000, 0.1, 901),
        (99, 0.45, 55),
    ],
)
def test_the_threshold_is_the_kth_smallest(n: int, miss: float, k: int) -> None:
    scores = torch.arange(1, n + 1)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]
    assert conformal_threshold(scores, miss=miss) == k


def test_too_few_samples_give_an_infinite_threshold() -> None:
    assert conformal_threshold(torch.arange(8.0), miss=0.1) == math.inf


@pytest.mark.parametrize("miss", [0.0, 1.0, -0.1])
def test_a_miss_outside_its_range_is_refused(miss: float) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        conformal_threshold(torch.ones(3), miss=miss)


def test_coverage_follows_the_beta_law() -> None:
    generator = np.random.default_rng(0)
    n, splits = 1000, 2000
    scores = generator.uniform(size=(splits, n))
    covered = np.array([conformal_threshold(torch.from_numpy(s), miss=0.1) for s in scores])
    # coverage of a uniform score is its threshold: Beta(901, 100), mean .900100, sd .0095
    sd = math.sqrt(901 * 100 / (1001**2 * 1002))
    assert sd == pytest.approx(0.0095, abs=5e-5)
    assert covered.mean() == pytest.approx(901 / 1001, abs=4 * sd / math.sqrt(splits))
    assert covered.std() == pytest.approx(sd, rel=0.1)


def test_lac_is_one_minus_the_probability_without_cancelling() -> None:
    found = lac_scores(torch.tensor([[0.0, -50.0], [math.log(3), 0.0]]).double())
    assert found[0, 0].item() == pytest.approx(math.exp(-50), rel=1e-9)
    assert found[1].tolist() == pytest.approx([0.25, 0.75])


def test_aps_adds_what_is_above_and_a_part_of_its_own() -> None:
    logits = torch.tensor([[math.log(0.2), math.log(0.5), math.log(0.3)]])
    found = aps_scores(logits, torch.tensor([0.5]))
    # .5 is first: .25; .3 second: .5 + .15; .2 last: .8 + .1
    assert found[0].tolist() == pytest.approx([0.9, 0.25, 0.65], abs=1e-7)


def drawn(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 5, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits, labels, torch.arange(n)


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_the_judged_half_is_covered_as_promised(method: Method) -> None:
    found = split_conformal(*drawn(0, 4000), method=method, miss=0.1)
    # sd of both halves together: sqrt(.09 (1/2000 + 1/2000)) = .0095
    assert found.covered.double().mean().item() == pytest.approx(0.9, abs=4 * 0.0095)


def test_lac_sets_are_smaller_on_average() -> None:
    lac, aps = (split_conformal(*drawn(0, 4000), method=name) for name in ("lac", "aps"))
    assert lac.sizes.double().mean() < aps.sizes.double().mean()


@pytest.mark.parametrize("method", ["lac", "aps"])
@given(seed=st.integers(0, 2**31), n=st.integers(8, 60), miss=st.floats(0.05, 0.9))
def test_a_set_is_the_classes_below_the_threshold(
    method: Method, seed: int, n: int, miss: float
) -> None:
    logits, labels, ids = drawn(seed, n)
    tests = second_half(ids)
    found = split_conformal(logits, labels, ids, method=method, miss=miss)
    assert len(found.covered) == len(found.sizes) == int(tests.sum())
    assert found.calibration_size == int((~tests).sum())
    assert ((found.sizes >= found.covered.long()) & (found.sizes <= 5)).all()
    if math.isinf(found.threshold):
        assert (found.sizes == 5).all()
    if method == "lac":
        inside = 1 - logits[tests].double().softmax(dim=1) <= found.threshold
        assert (inside.sum(dim=1) == found.sizes).double().mean() > 0.9  # but for rounding
        assert torch.equal(inside.gather(1, labels[tests, None]).squeeze(1), found.covered)


def test_a_score_equal_to_the_threshold_is_in_the_set() -> None:
    logits, labels = torch.tensor([[2.0, 0.0]]).repeat(60, 1), torch.zeros(60, dtype=torch.int64)
    found = split_conformal(logits, labels, torch.arange(60), method="lac")
    assert found.covered.all()
    assert (found.sizes == 1).all()


def test_a_smaller_miss_gives_larger_sets() -> None:
    sizes = [
        split_conformal(*drawn(1, 500), method="aps", miss=miss).sizes for miss in (0.05, 0.2, 0.5)
    ]
    assert (sizes[0] >= sizes[1]).all()
    assert (sizes[1] >= sizes[2]).all()


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = split_conformal(*drawn(2, 40), method="aps")
    monkeypatch.setattr("measurements.functional.rows.VALUES_AT_ONCE", 10)
    parts = split_conformal(*drawn(2, 40), method="aps")
    assert torch.equal(parts.sizes, whole.sizes)
    assert torch.equal(parts.covered, whole.covered)


def test_one_sample_cannot_be_split() -> None:
    with pytest.raises(NotApplicable, match="both halves"):
        split_conformal(*drawn(0, 1), method="lac")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="lac or aps, got 'raps'"):
        split_conformal(*drawn(0, 20), method=cast("Method", "raps"))
