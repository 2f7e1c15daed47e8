import csv
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.estimate import Estimate
from store.cells import Cell, write_cell
from store.layout import Layout
from store.runs import Run, write_run

ENTRY = Path(__file__).resolve().parents[1] / "report.py"
RUN = "net-none-0123456789"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "results")
    run = Run(run_id=RUN, model="net", compressor="none", baseline=None, fingerprint="f", seed=0)
    write_run(layout, run)
    accuracy = Estimate(0.9, n=360, low=0.86, high=0.93, unit="fraction", better="higher")
    values = {"digits_test_accuracy": accuracy}
    write_cell(layout, RUN, Cell(measurement="accuracy", key="k", status="done", values=values))
    return layout


@dataclass
class Ended:
    """How the command ended and what it wrote."""

    code: object
    out: str
    err: str


Report = Callable[..., Ended]


@pytest.fixture
def report(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Report:
    """Run the entry file with arguments, in this process and in a folder of its own."""
    monkeypatch.chdir(layout.root.parent)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [str(ENTRY), f"results_dir={layout.root}", *arguments])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module("report").report()
        return Ended(ended.value.code, *capsys.readouterr())

    return run


def test_the_table_of_all_runs_is_written_without_colours_to_a_pipe(report: Report) -> None:
    done = report()
    assert (done.code, done.err) == (0, "")
    assert RUN in done.out
    assert "90.00 [86.00, 93.00] 360" in done.out
    assert "\x1b" not in done.out


def test_csv_is_nothing_but_rows(report: Report) -> None:
    (row,) = csv.DictReader(io.StringIO(report("format=csv").out))
    assert (row["run_id"], row["value"], row["baseline"]) == (RUN, "0.9", "")


def test_json_is_nothing_but_rows(report: Report) -> None:
    (row,) = json.loads(report("format=json").out)
    assert (row["run_id"], row["value"], row["baseline"]) == (RUN, 0.9, None)


def test_one_run_can_be_written_to_a_file(report: Report, layout: Layout) -> None:
    done = report(f"run={RUN}", "format=markdown", "output=out/table.md")
    assert (done.code, done.out) == (0, "")
    assert "| digits_test_accuracy |" in (layout.root.parent / "out/table.md").read_text()


def test_runs_are_shown_side_by_side(report: Report) -> None:
    (row,) = csv.DictReader(
        io.StringIO(report("show=runs", "columns=[accuracy]", "format=csv").out)
    )
    assert (row["run_id"], row["digits_test_accuracy"]) == (RUN, "0.9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results_dir=elsewhere"], "there are no results in elsewhere: run python evaluate.py"),
        (["format=cvs"], "unknown format 'cvs', did you mean 'csv'"),
        (["run=net-none-012345678"], f"unknown run 'net-none-012345678', did you mean '{RUN}'"),
        (["wandb=maybe"], "wandb is true or false here, got 'maybe'"),
        (["show=run"], "unknown show 'run', did you mean 'runs'"),
    ],
    ids=["empty store", "format", "run", "wandb", "show"],
)
def test_a_fault_is_one_sentence_and_the_exit_code_is_not_0(
    report: Report, arguments: list[str], message: str
) -> None:
    done = report(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)
    assert len(done.err.splitlines()) == 1


def test_wandb_is_left_alone_unless_asked_for(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert report("format=csv").code == 0


def test_a_wandb_that_breaks_is_told_and_the_table_is_written(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    done = report("wandb=true", "format=csv")
    assert done.code == 1
    assert len(done.out.splitlines()) == 2
    assert "wandb broke" in done.err
    assert "python report.py wandb=true" in done.err


@pytest.mark.slow
def test_a_store_is_shown_in_wandb_again_with_nothing_else_on_the_screen(layout: Layout) -> None:
    command = [sys.executable, str(ENTRY), f"results_dir={layout.root}", "wandb=true", "format=csv"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=layout.root.parent, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    assert len(list(layout.root.glob("wandb/offline-run-*/*.wandb"))) == 1
