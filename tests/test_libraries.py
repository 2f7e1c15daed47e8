"""Every entry of every library keeps the contract of its kind."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from core.app import CONFIG
from core.configuration import plain
from core.names import SPLITS, require_key
from core.outline import outline
from core.targets import build, resolve
from datamodules.base import ImageDataModule
from evaluation.run import run
from measurements.measurement import Measurement, PairedMeasurement, RecordMeasurement
from store.cells import list_cells


def composed(*overrides: str) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        return compose("evaluate_defaults", overrides=list(overrides))


DEFAULTS = plain(composed())
MEASUREMENTS = DEFAULTS["measurement_library"]
DATASETS = DEFAULTS["dataset_library"]
RECIPES = [OmegaConf.load(path) for path in sorted((CONFIG / "compressor").glob("*.yaml"))]
TARGETS = [entry["_target_"] for entry in [*MEASUREMENTS.values(), *RECIPES] if "_target_" in entry]
FOLDERS = {"property": "properties", "benefit": "benefits", "paired": "paired"}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_says_what_it_is(name: str) -> None:
    kind = resolve(MEASUREMENTS[name]["_target_"], expects=Measurement)
    assert kind.__module__.split(".")[1] == FOLDERS[kind.kind]
    assert kind.better in ("higher", "lower", "")
    assert isinstance(kind.version, int)
    assert kind.version >= 1
    assert kind.split in SPLITS
    assert kind.needs
    assert (inspect.getdoc(kind) or "") != inspect.getdoc(Measurement)
    assert not inspect.isabstract(kind)


@pytest.mark.parametrize("target", TARGETS)
def test_the_outline_of_a_class_is_true(target: str) -> None:
    real, told = resolve(target, expects=object), outline(target)
    for name in ("kind", "needs", "unit", "better", "version", "__module__", "__qualname__"):
        assert getattr(told, name, None) == getattr(real, name, None), name
    assert inspect.getdoc(told) == inspect.getdoc(real)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_an_entry_leaves_blank_what_is_filled_at_run_time(name: str) -> None:
    entry = MEASUREMENTS[name]
    assert {"model", "experiment_config", "datamodule_names"} <= set(entry)
    assert entry["model"] is None
    assert entry["experiment_config"] is None


@pytest.mark.parametrize("name", DATASETS)
def test_a_datamodule_stores_its_arguments_and_reads_nothing(name: str) -> None:
    reads = ImageDataModule.setup_calls
    datamodule = build(DATASETS[name], expects=ImageDataModule)
    assert ImageDataModule.setup_calls == reads
    assert "test" in datamodule.splits
    assert all(isinstance(fault, str) for fault in datamodule.faults("test"))
    assert datamodule.library_name == name


@pytest.mark.slow
def test_every_measurement_gives_named_finite_values_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordMeasurement, "draws", 20)
    found = []
    for attempt in ("first", "second"):
        config = composed(
            f"measurements=[{','.join(MEASUREMENTS)}]",
            "measurement_library.latency.seconds=0.1",
            "compressor=level",
            "limit_samples=60",
            f"results_dir={tmp_path / attempt}",
        )
        outcome = run(config)
        assert not outcome.failed
        assert outcome.passes == outcome.necessary > 0
        cells = {cell.measurement: cell for cell in list_cells(outcome.layout, outcome.run_id)}
        assert {name.partition(".")[0] for name in cells} == set(MEASUREMENTS)
        absent = {name: cell.reason for name, cell in cells.items() if not cell.values}
        assert all(absent.values()), absent  # the default dataset has no groups, no relatives
        found.append({name: dict(cell.values) for name, cell in cells.items()})
    for name, values in found[0].items():
        kind = resolve(MEASUREMENTS[name.partition(".")[0]]["_target_"], expects=Measurement)
        for key in values:
            require_key(key)
        if kind.deterministic:
            assert values == found[1][name], name
        else:
            assert values.keys() == found[1][name].keys()


def test_the_group_all_has_every_measurement() -> None:
    assert sorted(composed("measurement_group=all").measurements) == sorted(MEASUREMENTS)


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_paired_measurement_is_in_the_paired_folder_alone(name: str) -> None:
    kind = resolve(MEASUREMENTS[name]["_target_"], expects=Measurement)
    assert issubclass(kind, PairedMeasurement) == (kind.kind == "paired")
