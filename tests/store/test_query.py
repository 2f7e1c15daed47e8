import json
import shutil
from pathlib import Path

import pytest

from core.estimate import Estimate
from store.cells import Cell, write_cell
from store.layout import Layout
from store.quarantine import CorruptFileWarning
from store.query import connect
from store.runs import Run, write_run
from store.sealed import sealed, write_sealed

BASE, PRUNED = "net-none-01", "net-l1_filter-02"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for run_id, compressor, baseline in ((BASE, "none", None), (PRUNED, "l1_filter", BASE)):
        write_run(
            layout,
            Run(
                run_id=run_id,
                model="net",
                compressor=compressor,
                baseline=baseline,
                fingerprint="f",
                seed=0,
                config={"compressor": {"sparsity": 0.5}},
                attempts=[{"started": "2026-01-01"}],
            ),
        )
    accuracy = Estimate(0.9, n=360, low=0.86, high=0.93, unit="fraction", better="higher")
    values = {"digits_test_top5": Estimate(1.0), "digits_test_accuracy": accuracy}
    accurate = Cell(
        measurement="accuracy", key="k", status="done", values=values, kind="benefit", version=3
    )
    write_cell(layout, BASE, accurate)
    write_cell(
        layout,
        PRUNED,
        Cell(measurement="latency", key="k", status="failed", reason="RuntimeError: x", error="T"),
    )
    write_cell(
        layout,
        PRUNED,
        Cell(measurement="fgsm", key="k", status="not_applicable", reason="no gradients"),
    )
    return layout


def test_a_value_is_a_row_with_its_run_and_every_field(layout: Layout) -> None:
    relation = connect(layout).sql("SELECT * FROM results WHERE name = 'digits_test_accuracy'")
    (row,) = relation.fetchall()
    assert dict(zip(relation.columns, row, strict=True)) == {
        "run_id": BASE,
        "model": "net",
        "compressor": "none",
        "baseline": None,
        "name": "digits_test_accuracy",
        "value": 0.9,
        "low": 0.86,
        "high": 0.93,
        "n": 360,
        "unit": "fraction",
        "better": "higher",
        "version": 3,
        "status": "done",
        "measurement": "accuracy",
        "kind": "benefit",
        "view": "clean",
        "reason": "",
    }


def test_what_failed_or_does_not_apply_is_a_row_with_its_reason(layout: Layout) -> None:
    rows = connect(layout).sql(f"""
        SELECT baseline, name, value, status, reason FROM results WHERE run_id = '{PRUNED}'
    """)
    assert rows.fetchall() == [
        (BASE, "fgsm", None, "not_applicable", "no gradients"),
        (BASE, "latency", None, "failed", "RuntimeError: x"),
    ]


def test_values_keep_the_order_of_their_cell(layout: Layout) -> None:
    rows = connect(layout).sql(f"SELECT name FROM results WHERE run_id = '{BASE}'").fetchall()
    assert rows == [("digits_test_top5",), ("digits_test_accuracy",)]


def test_runs_and_cells_are_tables_too(layout: Layout) -> None:
    database = connect(layout)
    runs = database.sql("SELECT run_id, config->'$.compressor.sparsity', attempts FROM runs")
    assert runs.fetchall() == [(PRUNED, "0.5", 1), (BASE, "0.5", 1)]
    cells = database.sql("SELECT run_id, measurement, error FROM cells").fetchall()
    assert cells == [(PRUNED, "fgsm", ""), (PRUNED, "latency", "T"), (BASE, "accuracy", "")]


@pytest.mark.parametrize("table", ["runs", "cells", "results"])
def test_an_empty_store_has_empty_tables(tmp_path: Path, table: str) -> None:
    database = connect(Layout(tmp_path / "absent"))
    assert database.sql(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    assert not (tmp_path / "absent").exists()


def test_values_of_a_run_whose_own_file_is_damaged_stay_visible(layout: Layout) -> None:
    layout.run_file(BASE).write_text("{")
    with pytest.warns(CorruptFileWarning):
        database = connect(layout)
    rows = database.sql(f"SELECT DISTINCT run_id, model FROM results WHERE run_id = '{BASE}'")
    assert rows.fetchall() == [(BASE, None)]


def test_a_damaged_cell_is_named_and_the_others_are_read(layout: Layout) -> None:
    layout.cell_file(PRUNED, "fgsm").write_bytes(b"")
    with pytest.warns(CorruptFileWarning, match=r"fgsm\.json is damaged"):
        database = connect(layout)
    names = database.sql("SELECT name FROM results ORDER BY name").fetchall()
    assert names == [("digits_test_accuracy",), ("digits_test_top5",), ("latency",)]


@pytest.mark.slow
def test_ten_thousand_cells_of_ten_values_are_all_read(layout: Layout) -> None:
    cell = layout.cell_file(BASE, "accuracy")
    stored = json.loads(cell.read_text())
    del stored["sha256"]
    value = stored["values"]["digits_test_accuracy"]
    stored["values"] = {f"digits_test_x{i}": value for i in range(10)}
    content = sealed(stored)
    for number in range(10_000):
        (cell.parent / f"m{number}.json").write_bytes(content)
    database = connect(layout)
    assert database.sql("SELECT count(*) FROM results").fetchall() == [(100_004,)]


def test_numbers_and_texts_come_back_exactly(layout: Layout) -> None:
    numbers = [0.1 + 0.2, 5e-324, -1.7976931348623157e308, 1 / 3, -0.0]
    values = {f"m_test_{i}": Estimate(x, n=2**53 - 1, low=x) for i, x in enumerate(numbers)}
    write_cell(layout, BASE, Cell(measurement="all", key="k", status="done", values=values))
    strange = 'a "quoted" \\ line\n\ttab, ümläut, \U0001f600, \x01 and a nul \x00 inside'
    write_cell(layout, BASE, Cell(measurement="odd", key="k", status="failed", reason=strange))
    database = connect(layout)
    found = database.sql("SELECT value, low, n FROM results WHERE measurement = 'all'").fetchall()
    assert [tuple(map(repr, row)) for row in found] == [
        (repr(x), repr(x), str(2**53 - 1)) for x in numbers
    ]
    ((told,),) = database.sql("SELECT reason FROM cells WHERE measurement = 'odd'").fetchall()
    assert told == strange


def test_what_an_earlier_version_left_out_is_empty(layout: Layout) -> None:
    cell = {"measurement": "old", "key": "k", "status": "failed", "version": 1, "seconds": 0.0}
    write_sealed(layout.cell_file(BASE, "old"), {**cell, "reason": "r", "error": "", "values": {}})
    database = connect(layout)
    old = "SELECT kind FROM {} WHERE measurement = 'old'"
    assert [database.sql(old.format(name)).fetchall() for name in ("cells", "results")] == [
        [("",)],
        [("",)],
    ]


def test_the_copy_of_a_runs_folder_is_named_and_no_run(layout: Layout) -> None:
    shutil.copytree(layout.run(BASE), layout.run("copied"))
    with pytest.warns(CorruptFileWarning, match=f"is of run '{BASE}'"):
        database = connect(layout)
    assert database.sql("SELECT run_id FROM runs ORDER BY 1").fetchall() == [(PRUNED,), (BASE,)]
