import importlib
import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from reporting.mirror import mirror
from store.layout import Layout

BASE, PRUNED = "digits_cnn-none-0123456789", "digits_cnn-l1_filter-abcdef0123"

SETTINGS = {
    "project": "interplay",
    "name": None,
    "group": "sweep-1",
    "tags": ["mine"],
    "notes": "a note",
    "mode": "offline",
}


class FakeRun:
    """A wandb run that remembers what it was told."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.summary = options, dict[str, float]()
        self.logged: dict[str, Any] = {}
        self.artifacts: list[FakeArtifact] = []
        self.exit_code: int | None = None

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def log_artifact(self, artifact: "FakeArtifact") -> None:
        self.artifacts.append(artifact)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


class FakeArtifact:
    def __init__(self, name: str, **described: Any) -> None:
        self.name, self.described, self.references = name, described, dict[str, str]()

    def add_reference(self, uri: str, name: str, checksum: bool) -> None:
        self.references[name] = uri


class FakeTable:
    def __init__(self, columns: list[str]) -> None:
        self.columns, self.rows = columns, list[tuple[Any, ...]]()

    def add_data(self, *cells: Any) -> None:
        self.rows.append(cells)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Runs of a stand-in for wandb, in the order they were started."""
    started: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        started.append(FakeRun(options))
        return started[-1]

    fake = ModuleType("wandb")
    stand_ins = {
        "init": init,
        "Settings": lambda **settings: settings,
        "Table": FakeTable,
        "Artifact": FakeArtifact,
        "Image": lambda picture: ("image", picture),
    }
    for name, stand_in in stand_ins.items():
        setattr(fake, name, stand_in)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return started


@pytest.fixture
def recorded(layout: Layout, record: Callable[..., str]) -> Layout:
    """The label is the sample id modulo 3: samples 1 and 2 are broken by the pruned model."""
    record("none", [0, 1, 2, 1])
    record("l1_filter", [0, 2, 1, 1])
    return layout


def test_every_run_is_a_wandb_run_with_its_settings(layout: Layout, runs: list[FakeRun]) -> None:
    assert mirror(layout, [BASE, PRUNED], SETTINGS)
    assert [run.options["id"] for run in runs] == [BASE, PRUNED]
    options = runs[1].options
    assert options["tags"] == ["mine", "digits_cnn", "l1_filter", "digits"]
    told = {key: options[key] for key in ("project", "group", "notes", "mode", "name", "reinit")}
    assert told == {
        "project": "interplay",
        "group": "sweep-1",
        "notes": "a note",
        "mode": "offline",
        "name": PRUNED,
        "reinit": "create_new",
    }
    assert (options["job_type"], options["dir"]) == ("evaluate", str(layout.root))
    assert options["config"]["baseline_run_id"] == BASE


def test_a_name_of_the_user_tells_the_models_apart(layout: Layout, runs: list[FakeRun]) -> None:
    mirror(layout, [BASE, PRUNED], {**SETTINGS, "name": "try"})
    assert [run.options["name"] for run in runs] == ["try-none", "try-l1_filter"]


def test_the_summary_is_the_flat_floats(layout: Layout, runs: list[FakeRun]) -> None:
    mirror(layout, [PRUNED], SETTINGS)
    assert runs[0].summary == {
        "digits_test_accuracy": 0.95,
        "digits_test_delta_accuracy": -0.025,
        "digits_test_churn": 0.03,
        "model_test_params": 83_614.0,
    }
    assert {type(value) for value in runs[0].summary.values()} == {float}


def test_a_run_with_a_failed_cell_is_marked_failed(layout: Layout, runs: list[FakeRun]) -> None:
    mirror(layout, [BASE, PRUNED], SETTINGS)
    assert [run.exit_code for run in runs] == [0, 1]


def test_disagreements_are_a_table_with_pictures(recorded: Layout, runs: list[FakeRun]) -> None:
    def image_of(datamodule: str, sample_id: int) -> str:
        return f"{datamodule} {sample_id}"

    mirror(recorded, [BASE, PRUNED], SETTINGS, image_of=image_of)
    assert runs[0].logged == {}
    table = runs[1].logged["digits_test_disagreements"]
    assert table.columns[-1] == "image"
    assert [(row[0], row[1], row[-1]) for row in table.rows] == [
        (2, "broken", ("image", "digits 2")),
        (1, "broken", ("image", "digits 1")),
    ]


def test_a_table_has_no_more_rows_than_allowed(recorded: Layout, runs: list[FakeRun]) -> None:
    mirror(recorded, [PRUNED], SETTINGS, most=1)
    table = runs[0].logged["digits_test_disagreements"]
    assert len(table.rows) == 1
    assert "image" not in table.columns


def test_the_records_are_an_artifact_that_points_to_their_folder(
    recorded: Layout, runs: list[FakeRun]
) -> None:
    mirror(recorded, [PRUNED], SETTINGS)
    (artifact,) = runs[0].artifacts
    uri = recorded.record("l1_filter").resolve().as_uri()
    assert artifact.references == {"digits/test/clean/l1_filter": uri}


def test_disabled_does_not_even_import_wandb(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    before = sorted(layout.root.rglob("*"))
    assert mirror(layout, [BASE, PRUNED], {**SETTINGS, "mode": "disabled"})
    assert sorted(layout.root.rglob("*")) == before


def test_a_wandb_that_does_not_start_is_told_in_one_sentence(
    layout: Layout,
    runs: list[FakeRun],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(**options: Any) -> None:
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with caplog.at_level(logging.WARNING):
        assert not mirror(layout, [BASE, PRUNED], SETTINGS)
    (message,) = caplog.messages
    assert message.startswith("wandb broke (no API key configured); the results are safe in")


def test_a_wandb_that_breaks_on_the_way_is_finished_as_failed(
    recorded: Layout,
    runs: list[FakeRun],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(FakeRun, "log_artifact", lambda run, artifact: 1 / 0)
    assert not mirror(recorded, [BASE], SETTINGS)
    assert [run.exit_code for run in runs] == [1]
    assert "wandb broke (division by zero)" in caplog.text


def test_an_interrupt_ends_the_mirror_with_its_run_finished(
    layout: Layout, runs: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reporting.mirror.records_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mirror(layout, [BASE], SETTINGS)
    assert [run.exit_code for run in runs] == [1]


def test_a_run_that_is_gone_is_told(
    layout: Layout, runs: list[FakeRun], caplog: pytest.LogCaptureFixture
) -> None:
    assert not mirror(layout, ["gone-none-1"], SETTINGS)
    assert "there is no run 'gone-none-1'" in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_real_wandb_writes_offline_runs_into_the_store(
    recorded: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WANDB_ERROR_REPORTING")  # what is ours must see to it
    picture = np.zeros((8, 8, 3), np.uint8)
    assert mirror(recorded, [BASE, PRUNED], SETTINGS, image_of=lambda *_: picture)
    importlib.import_module("wandb").teardown()  # its own process writes the last bytes
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Otel")]
    (before,) = recorded.root.glob(f"wandb/offline-run-*-{BASE}/*.wandb")
    (now,) = recorded.root.glob(f"wandb/offline-run-*-{PRUNED}/*.wandb")
    assert b"digits_test_churn" in now.read_bytes()
    assert b"digits_test_churn" not in before.read_bytes()
    assert f"records-{PRUNED}".encode() in now.read_bytes()
    (table,) = now.parent.glob("files/media/table/*.json")
    rows = json.loads(table.read_text())
    assert [row[:2] for row in rows["data"]] == [[2, "broken"], [1, "broken"]]
