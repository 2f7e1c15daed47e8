"""One row a run: chosen numbers, what differs between recipes, the spread over seeds."""

from typing import Any

import pytest

from core.estimate import Estimate
from reporting.pivot import runs_view
from reporting.population import read_members
from reporting.sheets import View
from reporting.views import show


def share(value: float) -> Estimate:
    return Estimate(
        value, n=8, low=value - 0.125, high=value + 0.125, unit="fraction", better="higher"
    )


@pytest.fixture
def filled(sweep: Any) -> Any:
    """A baseline; `a` and `b` differ by seed, `c` in its recipe."""
    sweep.run("base")
    sweep.cell("base", "benefit", digits_test_accuracy=share(0.75))
    for name, seed, scope, accuracy in (
        ("a", 0, "layer", 0.5),
        ("b", 1, "layer", 0.25),
        ("c", 0, "global", 0.625),
    ):
        recipe = {"sparsity": 0.5, "scope": scope}
        sweep.run(name, of="base", seed=seed, recipe=recipe)
        sweep.cell(name, "benefit", digits_test_accuracy=share(accuracy))
        change = Estimate(accuracy - 0.75, low=-0.5, high=-0.0625, unit="fraction", better="higher")
        sweep.cell(name, "paired", digits_test_delta_accuracy=change)
    return sweep


def view(sweep: Any, *columns: str) -> View:
    return runs_view(read_members(sweep.layout), columns or None)


def test_a_run_is_a_row_with_its_seed_and_what_differs_between_recipes(filled: Any) -> None:
    rows = view(filled).flat.rows
    assert [(row["run_id"], row["seed"], row["scope"]) for row in rows] == [
        ("base", 0, None),
        ("a", 0, "layer"),
        ("b", 1, "layer"),
        ("c", 0, "global"),
    ]
    assert "sparsity" not in rows[1]  # the same everywhere


def test_a_change_comes_with_its_interval_and_verdict(filled: Any) -> None:
    base, run, *_ = view(filled, "delta_accuracy").flat.rows
    assert run["digits_test_delta_accuracy"] == -0.25
    assert run["digits_test_delta_accuracy_low"] == -0.5
    assert run["digits_test_delta_accuracy_verdict"] == "worse"
    assert base["digits_test_delta_accuracy"] is None


def test_the_spread_over_seeds_is_apart_from_the_sampling_interval(filled: Any) -> None:
    rows = {row["run_id"]: row for row in view(filled, "accuracy").flat.rows}
    # .5 and .25: mean .375, each .125 away, one degree of freedom
    assert rows["a"]["digits_test_accuracy_seed_sd"] == pytest.approx(0.125 * 2**0.5)
    assert rows["b"]["digits_test_accuracy_seed_sd"] == rows["a"]["digits_test_accuracy_seed_sd"]
    assert rows["c"]["digits_test_accuracy_seed_sd"] is None
    assert (rows["a"]["models_of_seeds"], rows["c"]["models_of_seeds"]) == (2, 1)
    assert (rows["a"]["digits_test_accuracy_low"], rows["a"]["digits_test_accuracy_high"]) == (
        0.375,
        0.625,
    )


def test_the_spread_has_a_table_of_its_own_that_says_what_it_is(filled: Any) -> None:
    text = show(filled.layout, "runs", columns=["accuracy"])
    assert "spread over seeds" in text
    assert "not the sampling interval" in " ".join(text.split())
    (line,) = [line.split() for line in text.splitlines() if "digits_test_accuracy" in line]
    assert " ".join(line) == "net level digits_test_accuracy 2 37.50 17.68 25.00 50.00 %"


def test_numbers_of_another_definition_stand_in_no_column(filled: Any) -> None:
    filled.cell("b", "benefit", "other data", digits_test_accuracy=share(1.0))
    change = Estimate(0.5, low=0.25, high=0.75, unit="fraction", better="higher")
    filled.cell("c", "paired", "other data", digits_test_delta_accuracy=change)
    found = view(filled, "accuracy", "delta_accuracy")
    rows = {row["run_id"]: row for row in found.flat.rows}
    assert rows["b"]["digits_test_accuracy"] is rows["a"]["digits_test_accuracy_seed_sd"] is None
    assert rows["c"]["digits_test_accuracy"] == 0.625
    assert rows["c"]["digits_test_delta_accuracy"] is None
    assert rows["c"]["digits_test_delta_accuracy_verdict"] is None
    told = [note.partition(":")[0] for note in found.notes if "left out" in note]
    assert told == ["digits_test_accuracy", "digits_test_delta_accuracy"]


def test_equal_weights_have_no_spread(sweep: Any) -> None:
    sweep.run("base")
    for seed in range(3):
        sweep.run(f"s{seed}", of="base", seed=seed, fingerprint="same")
        sweep.cell(f"s{seed}", "benefit", digits_test_accuracy=share(0.5))
    found = view(sweep)
    assert len(found.sheets) == 1
    assert {row["models_of_seeds"] for row in found.flat.rows} == {1}


def test_a_terminal_shows_short_names_and_percent(filled: Any) -> None:
    text = show(filled.layout, "runs")
    head, base, first, *_ = (line.split() for line in text.splitlines())
    assert " ".join(head) == (
        "run_id compressor scope seed accuracy % delta_accuracy pt delta_accuracy_verdict"
    )
    assert first == ["a", "level", "layer", "0", "50.00", "-25.00", "worse"]
    assert base == ["base", "none", "0", "75.00"]


def test_a_short_name_stands_for_every_dataset(filled: Any) -> None:
    filled.cell("a", "benefit", cifar10_test_accuracy=share(0.5))
    columns = view(filled, "accuracy").flat.columns
    assert "cifar10_test_accuracy" in columns
    assert "digits_test_accuracy" in columns


def test_an_unknown_column_is_told_with_the_nearest(filled: Any) -> None:
    with pytest.raises(LookupError, match="unknown result 'digits_test_acuracy', did you mean"):
        view(filled, "digits_test_acuracy")
