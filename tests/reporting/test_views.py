"""What the command shows of several runs, in every format."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from core.estimate import Estimate
from reporting.render import Format
from reporting.views import Show, require_show, show
from store.layout import Layout


@pytest.fixture
def filled(sweep: Any) -> Any:
    """Two models of one baseline, with records."""
    label = [0, 1, 2, 3]
    for name, base, predicted, params in (
        ("base", None, label, 8.0),
        ("half", "base", [0, 1, 2, 0], 4.0),
        ("same", "base", [0, 1, 0, 0], 8.0),
    ):
        recipe = {"recipe": {"sparsity": params / 16}} if base else {}
        key = sweep.records(f"{name}-key", predicted, label)
        sweep.run(name, of=base, passes={"digits": key}, **recipe)
        right = sum(p == x for p, x in zip(predicted, label, strict=True)) / 4
        sweep.cell(name, "benefit", digits_test_accuracy=Estimate(right, unit="fraction"))
        sweep.cell(name, "property", digits_test_rank=params)
        sweep.cell(name, "benefit", model_test_params=Estimate(params, unit="parameters"))
        if base:
            sweep.cell(name, "paired", digits_test_mcnemar_p=Estimate(0.5, unit="p"))
    return sweep


SEVERAL: tuple[Show, ...] = ("runs", "tradeoff", "association", "exemplars", "significance")
FORMATS: tuple[Format, ...] = ("table", "csv", "json", "markdown", "latex")


@pytest.mark.parametrize("what", SEVERAL)
def test_every_view_has_every_format(filled: Any, what: Show) -> None:
    texts = {kind: show(filled.layout, what, kind) for kind in FORMATS}
    rows = json.loads(texts["json"])
    assert len(list(csv.DictReader(io.StringIO(texts["csv"])))) == len(rows)
    assert len(texts["markdown"].splitlines()) == 2 + len(rows)
    assert texts["latex"].startswith("% \\usepackage{booktabs}\n\\begin{tabular}")
    assert texts["table"].strip()
    assert "None" not in texts["table"] + texts["csv"]


def test_a_tradeoff_for_programs_names_everything(filled: Any) -> None:
    rows = json.loads(show(filled.layout, "tradeoff", "json", cost="params"))
    (half,) = [row for row in rows if row["run_id"] == "half"]
    assert (half["error"], half["cost"], half["drop_per_halving"]) == (0.25, 4.0, 0.25)
    assert (half["on_front"], half["best_within"], half["hypervolume"]) == (True, "0.5", 0.5)
    assert half["recipe"] == "sparsity=0.25"
    best = {row["run_id"]: row["best_within"] for row in rows}
    assert best == {"base": "", "half": "0.5", "same": ""}


def test_too_few_lineages_are_told_and_no_number_is_shown(
    filled: Any, caplog: pytest.LogCaptureFixture
) -> None:
    text = " ".join(show(filled.layout, "association").split())
    assert text.startswith("values: property against benefit needs 10 lineages of models, got 1")
    assert "spearman" not in text
    assert json.loads(show(filled.layout, "association", "json")) == []
    assert "needs 10 lineages" in caplog.text


def test_samples_and_classes_are_told_apart(filled: Any) -> None:
    rows = json.loads(show(filled.layout, "exemplars", "json"))
    found = [
        (row["recipe"], row["what"], row["sample_id"], row["modal_compressed"]) for row in rows
    ]
    assert found == [
        ("sparsity=0.25", "churn", 3, 0),
        ("sparsity=0.5", "churn", 2, 0),
        ("sparsity=0.5", "churn", 3, 0),
    ]


def test_one_run_can_be_judged(filled: Any) -> None:
    rows = json.loads(show(filled.layout, "significance", "json", run="half"))
    assert {row["run_id"] for row in rows} == {"half"}
    with pytest.raises(LookupError, match="unknown run 'hal', did you mean 'half'"):
        show(filled.layout, "significance", run="hal")


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("runs", {"run": "half"}, "show=runs is about all runs: leave out run=half"),
        ("tradeoff", {"columns": ["accuracy"]}, "columns goes with show=runs"),
        ("runs", {"columns": "accuracy"}, r"columns is a list such as \[accuracy\]"),
    ],
    ids=["run", "columns", "text"],
)
def test_options_that_do_not_fit_are_refused(
    filled: Any, what: Show, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        show(filled.layout, what, **options)


def test_an_unknown_view_is_told_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="unknown show 'tradeof', did you mean 'tradeoff'"):
        require_show("tradeof")


@pytest.mark.parametrize("what", SEVERAL)
def test_an_empty_store_says_what_to_do(tmp_path: Path, what: Show) -> None:
    with pytest.raises(LookupError, match=r"run python evaluate.py first"):
        show(Layout(tmp_path), what)
