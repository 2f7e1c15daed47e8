"""Paired p-values of a run, adjusted for their number."""

from typing import Any

import pytest

from core.estimate import Estimate
from reporting.population import read_members
from reporting.significance import Judged, interval_p_value, significance

HALF = 1.959964


def judged(sweep: Any) -> dict[str, Judged]:
    return {one.name: one for one in significance(read_members(sweep.layout))}


@pytest.fixture
def filled(sweep: Any) -> Any:
    """Two tests, p .01 and .04, and two changes: 2.2 standard errors down, and none at all."""
    sweep.run("base")
    sweep.run("small", of="base")
    sweep.cell("small", "paired", digits_test_mcnemar_p=Estimate(0.01, unit="p"))
    sweep.cell("small", "paired", digits_test_other_p=Estimate(0.04, unit="p"))
    sweep.cell("small", "benefit", digits_test_group_gap_p=Estimate(0.001, unit="p"))
    for name, change, half in (("accuracy", -0.022, 0.01 * HALF), ("top5", 0.0, 0.0)):
        better: Any = {"unit": "fraction", "better": "higher"}
        delta = Estimate(change, low=change - half, high=change + half, **better)
        for run, value in (("base", 0.9), ("small", 0.9 + change)):
            sweep.cell(run, "benefit", **{f"digits_test_{name}": Estimate(value, **better)})
        sweep.cell("small", "paired", **{f"digits_test_delta_{name}": delta})
    return sweep


def test_questions_of_a_pair_are_counted_together(filled: Any) -> None:
    found = judged(filled)
    p = 0.027807  # two-sided normal, 2.2 standard errors
    assert found["digits_test_accuracy"].p_value == pytest.approx(p, abs=1e-6)
    assert {name: one.holm for name, one in found.items()} == pytest.approx(
        {
            "digits_test_mcnemar_p": 4 * 0.01,
            "digits_test_accuracy": 3 * p,
            "digits_test_other_p": 3 * p,  # 2 * .04 is less, and order is kept
            "digits_test_top5": 1.0,
        },
        abs=1e-5,
    )
    assert found["digits_test_accuracy"].benjamini_hochberg == pytest.approx(0.04 * 4 / 3)


def test_a_verdict_may_not_outlive_the_count(filled: Any) -> None:
    found = judged(filled)
    accuracy = found["digits_test_accuracy"]
    assert (accuracy.verdict, accuracy.verdict_holm) == ("worse", "unresolved")
    mcnemar = found["digits_test_mcnemar_p"]
    assert (mcnemar.verdict, mcnemar.verdict_holm) == ("different", "different")
    assert found["digits_test_top5"].verdict_holm == "no difference"


def test_a_p_value_of_the_level_itself_decides_nothing(sweep: Any) -> None:
    sweep.run("base")
    for name, p in (("at", 0.05), ("below", 0.0499)):
        sweep.run(name, of="base")
        sweep.cell(name, "paired", digits_test_mcnemar_p=Estimate(p, unit="p"))
    found = {one.run_id: one.verdict for one in significance(read_members(sweep.layout))}
    assert found == {"at": "unresolved", "below": "different"}


def test_what_is_no_comparison_is_not_counted(filled: Any) -> None:
    found = judged(filled)
    assert "digits_test_group_gap_p" not in found
    assert {one.run_id for one in found.values()} == {"small"}


def test_sources_are_named(filled: Any) -> None:
    found = judged(filled)
    assert (found["digits_test_accuracy"].source, found["digits_test_mcnemar_p"].source) == (
        "interval",
        "test",
    )
    assert found["digits_test_accuracy"].difference == -0.022
    assert found["digits_test_mcnemar_p"].difference is None


def test_a_certain_change_has_no_chance() -> None:
    assert interval_p_value(0.5, 0.5, 0.5) == 0.0
