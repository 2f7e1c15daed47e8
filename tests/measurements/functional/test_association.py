"""Property against benefit: scipy as the oracle, lineages as the unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from core.errors import NotApplicable
from measurements.functional.association import associate, associate_all, coupled
from measurements.functional.multiplicity import holm

TEN = [str(i) for i in range(10)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@given(st.integers(10, 25), st.integers(0, 2**31))
def test_correlations_agree_with_scipy(n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, 6, n), generator.normal(size=n)
    if np.ptp(x) == 0:
        return
    found = associate(x.tolist(), y.tolist(), list(map(str, range(n))), generator=rng(), draws=20)
    assert found.spearman == pytest.approx(spearmanr(x, y).statistic)
    assert found.pearson == pytest.approx(pearsonr(x, y).statistic)


def test_the_p_value_is_that_of_permutations() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=12)
    y = x + 1.5 * generator.normal(size=12)
    found = associate(
        x.tolist(), y.tolist(), list(map(str, range(12))), generator=rng(), draws=4000
    )
    expected = spearmanr(x, y)  # Student's approximation: near, not equal
    assert 0.005 < expected.pvalue < 0.5
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.02)


@pytest.mark.slow
def test_p_values_of_what_is_unrelated_are_even() -> None:
    generator = np.random.default_rng(1)
    found = [
        associate(x, y, TEN, generator=generator, draws=100).p_value
        for x, y in generator.normal(size=(100, 2, 10)).tolist()
    ]
    assert sum(p <= 0.1 for p in found) <= 10 + 3 * 3


def test_models_of_one_lineage_count_once() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 10))
    alone = associate(x, y, TEN, generator=rng(), draws=50)
    # twenty copies about each lineage's value: the same evidence, not twenty times as much
    wobble = np.tile([-0.5, 0.5], 10)
    many = associate(
        (x[:, None] + wobble).ravel(),
        (y[:, None] - wobble).ravel(),
        list(np.repeat(TEN, 20)),
        generator=rng(),
        draws=50,
    )
    assert (many.lineages, many.models) == (10, 200)
    assert many.spearman == pytest.approx(alone.spearman)
    assert many.pearson == pytest.approx(alone.pearson)
    assert many.p_value == alone.p_value


def test_below_ten_lineages_it_says_what_is_missing() -> None:
    names = ["a"] * 50 + TEN[:8]
    with pytest.raises(NotApplicable, match=r"needs 10 lineages of models, got 9; .* 1 more"):
        associate(range(58), range(58), names, generator=rng())


def test_the_sign_is_kept() -> None:
    found = associate(range(10), [-i for i in range(10)], TEN, generator=rng(), draws=200)
    assert [found.spearman, found.pearson] == pytest.approx([-1, -1])
    assert found.p_value < 0.05
    assert found.spearman_interval.low == pytest.approx(-1)


def test_the_interval_holds_the_value() -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 15))
    found = associate(x, y, list(map(str, range(15))), generator=rng(), draws=200)
    low, high = found.spearman_interval
    assert -1 <= low < found.spearman < high <= 1


def test_a_constant_goes_with_nothing() -> None:
    with pytest.raises(NotApplicable, match="the same for every lineage"):
        associate([1.0] * 10, range(10), TEN, generator=rng())


def test_a_value_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="finite values"):
        associate([float("nan"), *range(9)], range(10), TEN, generator=rng())


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 9, 10 and 10"):
        associate(range(9), range(10), TEN, generator=rng())


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("nll", "accuracy", True),
        ("delta_nll", "delta_accuracy", True),
        ("kl", "delta_accuracy", True),
        ("params", "macs", True),
        ("accuracy", "accuracy", True),
        ("sharpness", "accuracy", False),
        ("nll", "macs", False),
    ],
)
def test_coupled_by_arithmetic(name: str, other: str, expected: bool) -> None:
    assert coupled(name, other) == coupled(other, name) == expected


def test_all_pairs_are_adjusted_together() -> None:
    x, y, z, w = np.random.default_rng(4).normal(size=(4, 10))
    found = associate_all(
        {"sharpness": x, "rank": y, "nll": z, "constant": [1.0] * 10},
        {"accuracy": w, "latency": x},
        TEN,
        generator=rng(),
        draws=100,
    )
    assert list(found) == [
        ("sharpness", "accuracy"),
        ("sharpness", "latency"),
        ("rank", "accuracy"),
        ("rank", "latency"),
        ("nll", "latency"),
    ]
    raw = [one.p_value for one in found.values()]
    assert [one.adjusted for one in found.values()] == holm(raw)


def test_a_lineage_is_the_mean_of_its_models() -> None:
    prop = [value for i in range(10) for value in (i * i, 3 * i, -i * i)]  # i in the mean
    benefit = [i for i in range(10) for _ in range(3)]
    found = associate(prop, benefit, list(map(str, benefit)), generator=rng(), draws=20)
    assert found.pearson == pytest.approx(1)
    assert (found.lineages, found.models) == (10, 30)


def test_all_pairs_need_ten_lineages_too() -> None:
    with pytest.raises(NotApplicable, match="10 lineages"):
        associate_all({"a": [1.0]}, {"b": [1.0]}, ["x"], generator=rng())


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("risk_at_coverage_80", "accuracy"),
        ("margin_negative", "accuracy_class_3"),
        ("margin", "accuracy"),
        ("conformal_size_aps", "accuracy"),
        ("ece_adaptive", "top5_accuracy"),
        ("weight_sparsity_block1_conv1", "effective_macs"),
        ("channel_sparsity_out", "file_bytes_gzip"),
    ],
)
def test_what_measurements_call_their_numbers_is_coupled(name: str, other: str) -> None:
    assert coupled(name, other)
    assert coupled(f"delta_{name}", f"delta_{other}")
    assert not coupled(name, "robust_accuracy_loss")
    assert not coupled("effective_rank", other)


def test_pairs_that_few_lineages_have_ask_for_no_permutations() -> None:
    rising, names = list(range(20)), [str(i) for i in range(20)]
    absent = {f"absent{i}": [None] * 11 + [1.0] * 9 for i in range(200)}
    found = associate_all({"rank": rising, **absent}, {"accuracy": rising}, names, generator=rng())
    assert found["rank", "accuracy"].p_value == 1 / 2001


def test_permutations_in_blocks_give_the_same_p_value(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.random.default_rng(7).normal(size=(2, 12)).tolist()
    names = list(map(str, range(12)))
    whole = associate(x, y, names, generator=rng(), draws=300)
    monkeypatch.setattr("measurements.functional.association.VALUES_AT_ONCE", 60)
    assert associate(x, y, names, generator=rng(), draws=300) == whole
