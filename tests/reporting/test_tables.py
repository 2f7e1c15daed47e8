import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.estimate import Estimate
from reporting.render import Format
from reporting.tables import PAIR_COLUMNS, RESULT_COLUMNS, comparison, results_table
from store.layout import Layout

BASE, PRUNED = "digits_cnn-none-0123456789", "digits_cnn-l1_filter-abcdef0123"


def line(text: str, start: str) -> str:
    """The one line that starts so, its columns one blank apart."""
    (found,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return " ".join(found.split())


def test_the_comparison_shows_both_numbers_difference_interval_and_verdict(layout: Layout) -> None:
    text = comparison(layout, PRUNED)
    assert line(text, "digits_test_accuracy") == (
        "digits_test_accuracy 97.50 95.00 -2.50 pt [-4.44, -0.56] 360 % worse"
    )
    assert line(text, "model_test_params") == "model_test_params 269,722 83,614 0.31x"
    assert line(text, "model_test_latency") == "model_test_latency_p50_ms 1.5 failed ms"
    assert line(text, "digits_test_churn") == "digits_test_churn 3.00 [1.70, 5.30] 360 %"


def test_the_text_below_says_what_intervals_and_verdicts_mean(layout: Layout) -> None:
    text = " ".join(comparison(layout, PRUNED).split())
    assert "It speaks of the sampling of the test set alone" in text
    assert "n = 360: a small test split makes wide intervals." in text
    assert "unresolved: it does" in text
    assert "failed: latency: RuntimeError: no clock" in text


def test_a_large_test_split_is_not_called_small(empty: Layout, write: Callable[..., None]) -> None:
    accuracy = Estimate(0.9, n=1000, low=0.88, high=0.92, unit="fraction")
    write(BASE, "accuracy", digits_test_accuracy=accuracy)
    text = comparison(empty, BASE)
    assert "1,000" in text
    assert "small test split" not in text


def test_a_table_without_an_interval_explains_none(
    empty: Layout, write: Callable[..., None]
) -> None:
    write(BASE, "params", model_test_params=3.0)
    assert "95 % interval." not in comparison(empty, BASE)


def test_a_baseline_by_itself_has_no_column_for_another_model(layout: Layout) -> None:
    text = comparison(layout, BASE)
    assert line(text, "digits_test_accuracy") == "digits_test_accuracy 97.50 [95.30, 98.70] 360 %"
    assert "compressed" not in text
    assert "not applicable: delta, flips: the model has no baseline" in text


def test_no_line_is_wider_than_120_columns_and_no_number_is_cut(layout: Layout) -> None:
    for text in (comparison(layout, PRUNED), results_table(layout)):
        assert max(map(len, text.splitlines())) <= 120
        assert "…" not in text


def test_a_long_name_is_neither_wrapped_nor_cut(empty: Layout, write: Callable[..., None]) -> None:
    name = "a_dataset_with_a_long_name_test_accuracy_" + "gaussian_noise_3_" * 5 + "end"
    write(BASE, "accuracy", **{name: 0.5})
    assert name in comparison(empty, BASE)


def test_a_name_in_brackets_is_shown_as_it_is(empty: Layout, write: Callable[..., None]) -> None:
    write(BASE, "[bold]", status="failed", reason="[red]x[/red]", error="T")
    text = comparison(empty, BASE)
    assert "[bold]" in text
    assert "[red]x[/red]" in text


def test_colours_are_written_only_where_asked(layout: Layout) -> None:
    assert "\x1b[31m" in comparison(layout, PRUNED, color=True)
    assert "\x1b" not in comparison(layout, PRUNED)
    assert "\x1b" in results_table(layout, color=True)
    assert "\x1b" not in results_table(layout)


def test_all_runs_are_one_table_in_which_a_baseline_stands_first(layout: Layout) -> None:
    text = results_table(layout)
    assert text.index(BASE) < text.index(PRUNED) < text.index(f"of {BASE}")
    assert line(text, "latency") == "latency 1 failed"
    assert line(text, "digits_test_delta_accuracy").endswith("] 360 pt higher 1 done")


def test_csv_of_all_runs_has_the_promised_columns_and_a_row_for_every_cell(layout: Layout) -> None:
    text = results_table(layout, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0] == ",".join(RESULT_COLUMNS)
    assert [(row["name"], row["status"]) for row in rows if row["run_id"] == PRUNED] == [
        ("digits_test_accuracy", "done"),
        ("digits_test_delta_accuracy", "done"),
        ("fgsm", "not_applicable"),
        ("digits_test_churn", "done"),
        ("latency", "failed"),
        ("model_test_params", "done"),
    ]
    accuracy = next(row for row in rows if row["run_id"] == PRUNED)
    assert (accuracy["value"], accuracy["low"], accuracy["baseline"]) == ("0.95", "0.922", BASE)


def test_json_of_a_comparison_holds_the_numbers_unrounded(layout: Layout) -> None:
    rows = {row["name"]: row for row in json.loads(comparison(layout, PRUNED, "json"))}
    assert list(rows["digits_test_accuracy"]) == list(PAIR_COLUMNS)
    assert rows["digits_test_accuracy"]["verdict"] == "worse"
    assert rows["model_test_params"]["ratio"] == 83_614 / 269_722
    assert (rows["digits_test_churn"]["low"], rows["digits_test_churn"]["high"]) == (0.017, 0.053)
    assert rows["digits_test_fgsm"]["low"] is None
    status = {name: row["status"] for name, row in rows.items()}
    assert status == {
        "digits_test_accuracy": "done",
        "digits_test_fgsm": "not_applicable",
        "digits_test_churn": "done",
        "model_test_latency_p50_ms": "failed",
        "model_test_params": "done",
    }


@pytest.mark.parametrize("kind", ["table", "csv", "json", "markdown", "latex"])
def test_an_empty_store_is_told_in_a_sentence(tmp_path: Path, kind: Format) -> None:
    with pytest.raises(LookupError, match=r"there are no results in .*run python evaluate\.py"):
        results_table(Layout(tmp_path / "absent"), kind)


def test_the_longest_name_of_the_measurements_with_the_widest_numbers_fits_120_columns(
    empty: Layout, write: Callable[..., None]
) -> None:
    def share(value: float, low: float) -> Estimate:
        return Estimate(value, n=50_000, low=low, high=1.0, unit="fraction", better="higher")

    for run_id in (BASE, PRUNED):
        write(run_id, "calibration", digits_test_calibration_error_debiased=share(1.0, 0.5))
        write(run_id, "latency", model_test_throughput=Estimate(37_069.5, unit="images/s"))
    change = Estimate(-1.0, n=50_000, low=-1.0, high=1.0, unit="fraction")
    write(PRUNED, "delta", digits_test_delta_calibration_error_debiased=change)
    write(PRUNED, "flips", status="not_applicable", reason="x")
    for text in (comparison(empty, PRUNED), results_table(empty)):
        assert max(map(len, text.splitlines())) <= 120


def test_latex_has_the_table_as_a_paper_shows_it(layout: Layout) -> None:
    lines = comparison(layout, PRUNED, "latex").splitlines()
    assert lines[1:3] == ["\\begin{tabular}{lrrrrrll}", "\\toprule"]
    accuracy = next(line for line in lines if line.startswith("digits\\_test\\_accuracy"))
    assert accuracy == (
        "digits\\_test\\_accuracy & 97.50 & 95.00 & -2.50 pt & [-4.44, -0.56] & 360 & \\% & worse "
        "\\\\"
    )
    churn = next(line for line in lines if line.startswith("digits\\_test\\_churn"))
    assert churn == "digits\\_test\\_churn &  & 3.00 &  & [1.70, 5.30] & 360 & \\% &  \\\\"
