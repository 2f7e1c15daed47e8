from itertools import pairwise
from typing import Any, ClassVar

import pytest
from torch import Tensor, nn

from compressors.search.budget import Budget, fitted, uniform
from compressors.search.oracle import Candidate, Ratios
from core.errors import ConfigError
from models.edits import Edits
from tests.compressors.search.conftest import Landscape, widths


@pytest.mark.parametrize(
    ("quantity", "sparsity", "left"),
    [
        ("macs", 0.5, (6, 6)),  # 486 + 324 + 18 = 828 of 1740; seven each: 1029
        pytest.param("macs", 1 - 828 / 1740, (6, 6), marks=pytest.mark.slow),
        pytest.param("macs", 1 - 827 / 1740, (5, 5), marks=pytest.mark.slow),
        # 60 + 324 + 6 + 18 + 3 = 411 of 1043; seven each: 542
        pytest.param("params", 0.5, (6, 6), marks=pytest.mark.slow),
        pytest.param("macs", 0.0, (10, 10), marks=pytest.mark.slow),
        pytest.param("macs", 0.94, (1, 1), marks=pytest.mark.slow),  # 93 of 1740
    ],
)
def test_uniform_is_the_largest_within_the_budget(
    wide_b: Landscape, quantity: str, sparsity: float, left: tuple[int, int]
) -> None:
    oracle = wide_b.oracle()
    fit = uniform(oracle, Budget(quantity=quantity, sparsity=sparsity))
    assert widths(oracle.model(fit.candidate)) == left
    assert oracle.evaluations == 0


@pytest.mark.slow
def test_a_direction_goes_as_far_as_it_has_to(wide_b: Landscape) -> None:
    oracle, budget = wide_b.oracle(), Budget(quantity="macs", sparsity=0.5)
    alone = fitted(oracle, budget, {"a": 1.0})  # 81 i + 90 i + 30 <= 870
    assert alone is not None
    assert widths(oracle.model(alone.candidate)) == (4, 10)
    assert alone.ratios == pytest.approx({"a": 0.6})
    skewed = fitted(oracle, budget, {"a": 0.2, "b": 0.6})  # 8, 3: 648 + 216 + 9
    assert skewed is not None
    assert widths(oracle.model(skewed.candidate)) == (8, 2)
    little = fitted(oracle, Budget(quantity="macs", sparsity=0.01), {"a": 1.0})
    assert little is not None
    assert widths(oracle.model(little.candidate)) == (9, 10)
    assert fitted(oracle, budget, {"b": 1.0}) is None  # 810 + 90 + 3 is left


@pytest.mark.parametrize(("sparsity", "gone"), [(0.2, 0.2), (0.3, 0.3), (0.301, None)])
def test_a_long_way_that_ends_early_takes_few_candidates(
    sparsity: float, gone: float | None
) -> None:
    asked = []

    class Long:
        """A thousand filters, of which three hundred may go."""

        filters: ClassVar = {"a": 1000}

        def candidate(self, ratios: Ratios) -> Candidate:
            asked.append(ratios["a"])
            why = "too few filters" if ratios["a"] > 0.3 + 1e-9 else ""
            return Candidate(ratios={**ratios}, edits=Edits(), params=1, macs=1, obstacle=why)

        def removed(self, candidate: Candidate, _: str) -> float:
            return 0.0 if candidate.obstacle else candidate.ratios["a"]

    oracle: Any = Long()
    fit = fitted(oracle, Budget(quantity="macs", sparsity=sparsity), {"a": 1.0})
    assert (fit and fit.ratios["a"]) == (gone and pytest.approx(gone))
    assert len(asked) <= 25


@pytest.mark.slow
def test_what_is_gone_at_the_start_stays_gone(wide_b: Landscape) -> None:
    oracle, budget = wide_b.oracle(), Budget(quantity="macs", sparsity=0.5)
    fit = fitted(oracle, budget, {"a": 1.0}, start={"b": 0.5})  # 81 i + 45 i + 15 <= 870
    assert fit is not None
    assert fit.ratios == pytest.approx({"a": 0.4, "b": 0.5})
    assert widths(oracle.model(fit.candidate)) == (6, 5)


@pytest.mark.slow
def test_more_to_remove_leaves_less(wide_b: Landscape) -> None:
    oracle = wide_b.oracle()
    costs = [
        uniform(oracle, Budget(quantity="params", sparsity=n / 20)).candidate.params
        for n in range(19)
    ]
    assert all(after <= before for before, after in pairwise(costs))
    assert all(cost <= 1043 * (1 - n / 20) for n, cost in enumerate(costs))


@pytest.mark.slow
def test_a_latency_is_met_as_it_was_measured(wide_b: Landscape) -> None:
    def clock(before: nn.Module, after: nn.Module, inputs: Tensor) -> float:
        return sum(widths(after)) / 20  # as fast as it is narrow

    oracle = wide_b.oracle(clock=clock)
    fit = uniform(oracle, Budget(quantity="latency", sparsity=0.25))
    assert widths(oracle.model(fit.candidate)) == (7, 7)
    assert fit.candidate.latency == 0.7


def test_what_cannot_be_met_tells_what_can(wide_b: Landscape) -> None:
    # one filter each: 81 + 9 + 3 = 93 of 1740
    with pytest.raises(ConfigError, match=r"=0\.95 of the macs .* each of a, b, 0\.947 of them"):
        uniform(wide_b.oracle(), Budget(quantity="macs", sparsity=0.95))


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Budget(quantity="mac", sparsity=1.0)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 2
    assert "did you mean 'macs'" in str(caught.value)
