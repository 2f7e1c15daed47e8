from collections.abc import Callable
from dataclasses import replace

import pytest

from core.estimate import Estimate
from reporting.compare import Comparison, Row, compare
from store.layout import Layout
from store.runs import read_run, write_run

BASE, PRUNED = "digits_cnn-none-0123456789", "digits_cnn-l1_filter-abcdef0123"


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def difference(value: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(value, n=360, low=low, high=high, unit="fraction", better="higher")


@pytest.fixture
def compared(layout: Layout) -> Comparison:
    return compare(layout, PRUNED)


def test_a_number_of_both_models_has_their_paired_difference(compared: Comparison) -> None:
    row = by_name(compared.rows)["digits_test_accuracy"]
    assert (row.baseline, row.compressed, row.change, row.n) == (0.975, 0.95, -0.025, 360)
    assert row.difference is not None
    assert (row.difference.low, row.difference.high) == (-0.0444, -0.0056)
    assert row.ratio is None


def test_what_is_counted_has_a_ratio_and_no_verdict(compared: Comparison) -> None:
    row = by_name(compared.rows)["model_test_params"]
    assert row.ratio == pytest.approx(0.310001, abs=1e-6)
    assert (row.difference, row.verdict) == (None, "")


def test_numbers_of_the_pair_stand_by_themselves(compared: Comparison) -> None:
    assert [row.name for row in compared.paired] == ["digits_test_churn"]
    assert compared.paired[0].compressed == 0.03


def test_the_differences_are_no_rows_of_their_own(compared: Comparison) -> None:
    names = [row.name for row in (*compared.rows, *compared.paired)]
    assert "digits_test_delta_accuracy" not in names
    assert len(names) == len(set(names))


def test_a_side_that_failed_or_does_not_apply_says_so(compared: Comparison) -> None:
    rows = by_name(compared.rows)
    assert (
        rows["model_test_latency_p50_ms"].baseline,
        rows["model_test_latency_p50_ms"].compressed,
    ) == (1.5, "failed")
    assert rows["digits_test_fgsm"].compressed == "n/a"
    assert compared.notes == [
        "not applicable: fgsm: a model run by onnxruntime has no gradients",
        "failed: latency: RuntimeError: no clock",
    ]


def test_a_baseline_by_itself_has_its_numbers_and_what_does_not_apply(layout: Layout) -> None:
    alone = compare(layout, BASE)
    assert alone.baseline is None
    assert [row.name for row in alone.paired] == [
        "digits_test_accuracy",
        "digits_test_fgsm",
        "model_test_latency_p50_ms",
        "model_test_params",
    ]
    assert [(row.name, row.compressed) for row in alone.rows] == [
        ("delta", "n/a"),
        ("flips", "n/a"),
    ]
    assert alone.notes == ["not applicable: delta, flips: the model has no baseline"]


def test_a_number_that_failed_for_the_baseline_alone_keeps_its_place(
    empty: Layout, write: Callable[..., None]
) -> None:
    write(BASE, "accuracy", status="failed", reason="x", error="T")
    write(PRUNED, "accuracy", digits_test_accuracy=0.9)
    found = compare(empty, PRUNED)
    assert [(row.baseline, row.compressed) for row in found.rows] == [("failed", 0.9)]
    assert found.notes == ["failed of the baseline: accuracy: x"]


def test_a_failure_of_both_is_one_row_with_the_name_of_the_measurement(
    empty: Layout, write: Callable[..., None]
) -> None:
    for run_id in (BASE, PRUNED):
        write(run_id, "accuracy", status="failed", reason="x", error="T")
    found = compare(empty, PRUNED)
    assert [(row.name, row.baseline, row.compressed) for row in found.rows] == [
        ("accuracy", "failed", "failed")
    ]


def test_the_number_of_the_same_session_goes_before_that_of_the_baselines_run(
    empty: Layout, write: Callable[..., None]
) -> None:
    write(BASE, "latency", model_test_latency_p50_ms=9.0)
    write(
        PRUNED,
        "latency",
        model_test_latency_p50_ms=1.0,
        model_test_baseline_latency_p50_ms=2.0,
        model_test_latency_ratio=0.5,
    )
    found = compare(empty, PRUNED)
    (row,) = found.rows
    assert (row.name, row.baseline, row.ratio) == ("model_test_latency_p50_ms", 2.0, 0.5)
    assert [row.name for row in found.paired] == ["model_test_latency_ratio"]


def test_a_baseline_value_of_zero_is_a_number(empty: Layout, write: Callable[..., None]) -> None:
    write(BASE, "latency", model_test_x=9.0)
    write(PRUNED, "latency", model_test_x=1.0, model_test_baseline_x=0.0)
    (row,) = compare(empty, PRUNED).rows
    assert (row.baseline, row.ratio, row.change) == (0.0, None, 1.0)


def test_a_difference_under_a_view_belongs_to_the_number_under_that_view(
    empty: Layout, write: Callable[..., None]
) -> None:
    for run_id, value in ((BASE, 0.8), (PRUNED, 0.7)):
        write(run_id, "accuracy", digits_test_accuracy_rotate_15=value, digits_test_accuracy=0.9)
    write(PRUNED, "delta", digits_test_delta_accuracy_rotate_15=difference(-0.1, -0.2, -0.05))
    rows = by_name(compare(empty, PRUNED).rows)
    assert rows["digits_test_accuracy_rotate_15"].change == -0.1
    assert rows["digits_test_accuracy"].difference is None


def test_a_difference_of_what_nobody_measured_is_a_row(
    empty: Layout, write: Callable[..., None]
) -> None:
    write(PRUNED, "delta", digits_test_delta_mood=0.1)
    assert [row.name for row in compare(empty, PRUNED).paired] == ["digits_test_delta_mood"]


def test_fractions_without_a_paired_difference_have_a_plain_one(
    empty: Layout, write: Callable[..., None]
) -> None:
    write(BASE, "sparsity", model_test_sparsity=Estimate(0.1, unit="fraction"))
    write(PRUNED, "sparsity", model_test_sparsity=Estimate(0.5, unit="fraction"))
    (row,) = compare(empty, PRUNED).rows
    assert row.change == pytest.approx(0.4)
    assert (row.ratio, row.verdict) == (None, "")


def test_numbers_come_in_the_order_in_which_the_evaluation_asked(
    empty: Layout, write: Callable[..., None]
) -> None:
    run = read_run(empty, BASE)
    assert run is not None
    write_run(empty, replace(run, config={"measurements": ["nll", "accuracy"]}))
    for name in ("accuracy", "brier", "nll"):
        write(BASE, name, **{f"digits_test_{name}": 0.5})
    names = [row.name for row in compare(empty, BASE).paired]
    assert names == ["digits_test_nll", "digits_test_accuracy", "digits_test_brier"]


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (0.01, 0.03, "higher", "better"),
        (-0.03, -0.01, "higher", "worse"),
        (0.01, 0.03, "lower", "worse"),
        (-0.03, -0.01, "lower", "better"),
        (-0.01, 0.03, "higher", "unresolved"),
        (0.0, 0.03, "higher", "unresolved"),
        (-0.03, 0.0, "higher", "unresolved"),
        (0.0, 0.0, "lower", "no difference"),
        (0.01, 0.03, "", ""),
        (None, None, "higher", ""),
    ],
)
def test_the_verdict_follows_from_the_interval_of_the_difference(
    low: float | None, high: float | None, better: str, verdict: str
) -> None:
    side = Estimate(0.5, unit="fraction", better=better)  # type: ignore[arg-type]
    row = Row(name="x", baseline=side, compressed=side, difference=difference(0.0, low, high))
    assert row.verdict == verdict


def test_a_run_that_does_not_exist_is_told_with_the_nearest(layout: Layout) -> None:
    with pytest.raises(LookupError, match=f"did you mean '{BASE}'"):
        compare(layout, "digits_cnn-none-0123")
    with pytest.raises(LookupError, match=f"Known: {PRUNED}, {BASE}, in "):
        compare(layout, "-none-0123456789")


def test_a_name_that_holds_the_word_delta_elsewhere_is_a_number_of_its_own(
    empty: Layout, write: Callable[..., None]
) -> None:
    for run_id in (BASE, PRUNED):
        write(run_id, "worst_class", digits_test_worst_class=0.5, digits_test_worst_delta_class=0.1)
    rows = compare(empty, PRUNED).rows
    assert [row.name for row in rows] == [
        "digits_test_worst_class",
        "digits_test_worst_delta_class",
    ]
    assert rows[0].difference is None


def test_a_difference_is_found_whatever_the_order_of_the_cells(
    layout: Layout, write: Callable[..., None]
) -> None:
    write(PRUNED, "delta.nll", digits_test_delta_nll=Estimate(0.5))  # stands before `nll`
    for run_id, value in ((BASE, 0.25), (PRUNED, 0.75)):
        write(run_id, "nll", digits_test_nll=Estimate(value))
    (row,) = [row for row in compare(layout, PRUNED).rows if row.name == "digits_test_nll"]
    assert row.difference == 0.5
