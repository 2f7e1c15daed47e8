"""The tests and intervals of statisticians, against the library statisticians use."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from measurements.functional.intervals import wilson_interval
from measurements.functional.multiplicity import benjamini_hochberg, holm
from measurements.functional.paired import mcnemar

pytestmark = pytest.mark.slow  # the library brings pandas along: a second to import


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_p_values_are_adjusted_alike(values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))
    expected = list(multipletests(values, method="fdr_bh")[1])
    assert benjamini_hochberg(values) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_test_of_the_two_by_two_table(
    both: int, broken: int, mended: int, neither: int
) -> None:
    from statsmodels.stats import contingency_tables

    counts = torch.tensor([both, broken, mended, neither])
    before = torch.tensor([True, True, False, False]).repeat_interleave(counts)
    now = torch.tensor([True, False, True, False]).repeat_interleave(counts)
    assume(len(now))
    table = [[both, broken], [mended, neither]]
    expected = contingency_tables.mcnemar(table, exact=True).pvalue if broken + mended else 1.0
    assert mcnemar(now, baseline=before).p_value == pytest.approx(expected)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilsons_interval_is_the_same(n: int, share: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = round(share * n)
    expected = proportion_confint(hits, n, alpha=0.05, method="wilson")
    assert tuple(wilson_interval(hits, n)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
