"""Evaluations of a small network with random weights on seeded noise, end to end."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.app import CONFIG
from core.digest import file_digest
from core.errors import ConfigError, NotApplicable
from core.estimate import Estimate
from core.targets import allow_targets
from datamodules.base import ImageDataModule
from evaluation.library import build_model
from evaluation.run import Outcome, dry_run, run
from measurements import definition
from measurements.functional import calibration
from measurements.measurement import MeanMeasurement, Measurement, RecordMeasurement
from recording.recorder import Recorder
from recording.records import Records
from reporting.compare import compare
from store.cells import list_cells, read_cell
from store.records import find_records, list_records
from store.runs import read_run

Configured = Callable[..., DictConfig]

DATASETS = ("dummy", "cifar10")
FEW = "measurements=[accuracy,nll,params]"


class Raises(Measurement):
    """A measurement with a mistake in it."""

    kind = "benefit"

    def measure(self) -> dict[str, float]:
        raise ZeroDivisionError("a mistake of a researcher")


class Needs(Measurement):
    """A measurement whose file is not there."""

    kind = "benefit"

    def measure(self) -> dict[str, float]:
        return {"dummy_test_aux": float(Path("/nowhere/aux.csv").read_text())}


class Over(MeanMeasurement):
    """A statistic with a parameter."""

    kind = "benefit"

    def __init__(self, *arguments: Any, threshold: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.threshold = threshold

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        return {"over": records.confidence > self.threshold}


class NotHere(MeanMeasurement):
    """A statistic that has no meaning for any model."""

    kind = "benefit"

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        raise NotApplicable("no model has this")


class Copies(Measurement):
    """A measurement that gives a result key of another one."""

    kind = "benefit"

    def measure(self) -> dict[str, Estimate]:
        return {"dummy_test_accuracy": Estimate(1.0)}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample less: how often is not what is tested here."""
    monkeypatch.setattr(RecordMeasurement, "draws", 20)


@cache
def composed(*overrides: str) -> DictConfig:
    """A composition with the library entries that are used here; the others only cost time."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        config = compose("evaluate_defaults", overrides=list(overrides))
    with open_dict(config):
        config.dataset_library = {name: config.dataset_library[name] for name in DATASETS}
        library = config.measurement_library
        used = ["accuracy", *config.measurements]
        config.measurement_library = {name: library[name] for name in used}
    return config


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """Configuration of an evaluation of a CIFAR ResNet-20 on 24 noise images."""

    def config(*overrides: str) -> DictConfig:
        line = [
            "model=cifar_resnet20",
            f"model.checkpoint={weights(tmp_path)}",
            "datasets=[dummy]",
            "dataset_library.dummy.samples=24",
            "batch_size=8",
            f"results_dir={tmp_path / 'results'}",
            *overrides,
        ]
        last = {override.partition("=")[0]: override for override in line}.values()
        of_this_test = [override for override in last if str(tmp_path) in override]
        shared = composed(*(override for override in last if override not in of_this_test))
        return OmegaConf.merge(shared, OmegaConf.from_dotlist(of_this_test))

    return config


def weights(folder: Path) -> Path:
    """Random weights as a checkpoint, equal for every test."""
    path = folder / "weights.safetensors"
    if not path.exists():
        from models.small.resnet_cifar import CifarResNet

        torch.manual_seed(0)
        model = CifarResNet(depth=20, num_classes=10, pretrained=False)
        save_file(model.backbone.state_dict(), path)
    return path


def values(outcome: Outcome) -> dict[str, float]:
    cells = list_cells(outcome.layout, outcome.run_id)
    return {key: value for cell in cells for key, value in cell.values.items()}


def add_measurement(config: DictConfig, name: str, kind: type, **more: Any) -> None:
    """Put a class of this file into the library, as a researcher's own package would be."""
    allow_targets([kind.__module__.partition(".")[0]])
    entry = {"_target_": f"{kind.__module__}.{kind.__name__}", "datamodule_names": ["dummy"]}
    with open_dict(config):
        config.measurement_library[name] = {
            **entry,
            **more,
            "model": None,
            "experiment_config": None,
        }
    config.measurements.append(name)


def test_every_cell_is_committed_with_its_run(configured: Configured) -> None:
    outcome = run(configured(FEW))
    assert set(values(outcome)) == {
        "dummy_test_accuracy",
        "dummy_test_top5_accuracy",
        "dummy_test_nll",
        "model_test_params",
    }
    assert values(outcome)["model_test_params"] == 269_722
    stored = read_run(outcome.layout, outcome.run_id)
    assert stored is not None
    assert (stored.model, stored.compressor, stored.baseline) == ("cifar_resnet20", "none", None)
    assert len(stored.attempts) == 1


def test_a_run_names_its_records_and_a_cell_its_kind(configured: Configured) -> None:
    outcome = run(configured(FEW))
    stored = read_run(outcome.layout, outcome.run_id)
    assert stored is not None
    records = find_records(outcome.layout, stored.passes["dummy"])
    assert records is not None
    assert len(records) == 24
    assert {cell.measurement: cell.kind for cell in list_cells(outcome.layout, outcome.run_id)} == {
        "accuracy": "benefit",
        "nll": "property",
        "params": "benefit",
    }


def test_the_same_command_does_nothing_twice(configured: Configured) -> None:
    first = run(configured(FEW))
    files = {path: path.read_bytes() for path in first.layout.cells(first.run_id).iterdir()}
    reads = ImageDataModule.setup_calls
    second = run(configured(FEW))
    assert (second.run_id, second.passes, second.measured) == (first.run_id, 0, 0)
    assert ImageDataModule.setup_calls == reads
    assert {path: path.read_bytes() for path in files} == files


def test_one_more_measurement_costs_no_pass_and_reads_no_data(configured: Configured) -> None:
    first = run(configured(FEW))
    reads = ImageDataModule.setup_calls
    second = run(configured("measurements=[accuracy,nll,params,brier,calibration]"))
    assert (second.run_id, second.passes, second.measured) == (first.run_id, 0, 2)
    assert ImageDataModule.setup_calls == reads


def test_a_renamed_checkpoint_is_the_same_model(configured: Configured, tmp_path: Path) -> None:
    first = run(configured(FEW))
    renamed = tmp_path / "renamed.safetensors"
    renamed.write_bytes(weights(tmp_path).read_bytes())
    second = run(configured(FEW, f"model.checkpoint={renamed}"))
    assert (second.run_id, second.passes) == (first.run_id, 0)


def test_one_changed_weight_is_another_model(configured: Configured, tmp_path: Path) -> None:
    first = run(configured(FEW))
    state = load_file(weights(tmp_path))
    state["conv1.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "changed.safetensors")
    second = run(configured(FEW, f"model.checkpoint={tmp_path / 'changed.safetensors'}"))
    assert second.run_id != first.run_id
    assert second.passes == 1


def test_a_limit_is_another_run(configured: Configured) -> None:
    first, second = run(configured(FEW)), run(configured(FEW, "limit_samples=10"))
    assert second.run_id != first.run_id
    assert values(second)["dummy_test_accuracy"].n == 10


def test_a_failing_measurement_stops_no_other(configured: Configured) -> None:
    config = configured("measurements=[params]")
    add_measurement(config, "raises", Raises)
    config.measurements.append("accuracy")
    outcome = run(config)
    failed = read_cell(outcome.layout, outcome.run_id, "raises")
    assert outcome.exit_code == 1
    assert failed is not None
    assert failed.status == "failed"
    assert "a mistake of a researcher" in failed.reason
    assert "Traceback" in failed.error
    assert "FAILED" in outcome.summary().splitlines()[-1]
    assert "dummy_test_accuracy" in values(outcome)


def test_a_failed_cell_is_tried_again(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("measurements=[params]")
    add_measurement(config, "raises", Raises)
    assert run(config).exit_code == 1
    monkeypatch.setattr(Raises, "measure", lambda self: {"dummy_test_mended": 1.0})
    again = run(config)
    assert (again.exit_code, again.measured, again.committed_before) == (0, 1, 1)


def test_a_result_key_is_given_once(configured: Configured) -> None:
    config = configured("measurements=[accuracy]")
    add_measurement(config, "copies", Copies)
    outcome = run(config)
    (_, failed) = outcome.failed[0]
    assert "already given by the measurement 'accuracy'" in failed.reason


def test_without_a_baseline_pairs_are_not_applicable_and_no_failure(
    configured: Configured,
) -> None:
    outcome = run(configured("measurements=[accuracy,flips]"))
    cell = read_cell(outcome.layout, outcome.run_id, "flips")
    assert cell is not None
    assert (cell.status, outcome.exit_code) == ("not_applicable", 0)
    assert "no baseline" in cell.reason


def test_a_measurement_without_its_file_is_a_failed_cell(configured: Configured) -> None:
    config = configured("measurements=[params]")
    add_measurement(config, "needs", Needs)
    config.measurements.append("accuracy")
    outcome = run(config)
    assert [cell.measurement for _, cell in outcome.failed] == ["needs"]
    assert "/nowhere/aux.csv" in outcome.failed[0][1].reason
    assert "dummy_test_accuracy" in values(outcome)


def compared(configured: Configured, folder: Path, *overrides: str) -> DictConfig:
    """Random weights against slightly others."""
    state = load_file(weights(folder))
    state["linear.weight"] += 0.02 * torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
    save_file(state, folder / "other.safetensors")
    return configured(
        f"model.checkpoint={folder / 'other.safetensors'}",
        "model@baseline=cifar_resnet20",
        f"baseline.model.checkpoint={weights(folder)}",
        *overrides,
    )


def test_a_difference_follows_the_parameters_of_its_statistic(
    configured: Configured, tmp_path: Path
) -> None:
    for threshold in (0.0, 1.1):
        config = compared(configured, tmp_path, "measurements=[delta]")
        add_measurement(config, "over", Over, threshold=threshold)
        outcome = run(config)
        shown = compare(outcome.layout, outcome.run_id)
        (row,) = [row for row in shown.rows if row.name == "dummy_test_over"]
        before, now = row.values
        assert row.difference == now - before
        assert {float(before), float(now)} == {1.0 if threshold == 0.0 else 0.0}


def test_one_statistic_that_cannot_be_had_takes_no_difference_with_it(
    configured: Configured, tmp_path: Path
) -> None:
    config = compared(configured, tmp_path, "measurements=[accuracy,delta]")
    add_measurement(config, "not_here", NotHere)
    outcome = run(config)
    assert outcome.exit_code == 0
    assert "dummy_test_delta_accuracy" in values(outcome)
    cell = read_cell(outcome.layout, outcome.run_id, "delta.not_here")
    assert cell is not None
    assert (cell.status, cell.reason) == ("not_applicable", "no model has this")


class Sometimes(MeanMeasurement):
    """A statistic that has to be told something."""

    kind = "benefit"

    def __init__(
        self, datamodule_names: Any, model: Any, experiment_config: Any, *, told: bool
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.told = told

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        if not self.told:
            raise NotApplicable("it was not told")
        return {"sometimes": records.correct}


def test_what_is_not_applicable_by_now_leaves_an_earlier_result(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    for told in (True, False):
        config = configured("measurements=[accuracy]")
        add_measurement(config, "sometimes", Sometimes, told=told)
        outcome = run(config)
    assert "sometimes: its earlier result stays; now: it was not told" in caplog.text
    cell = read_cell(outcome.layout, outcome.run_id, "sometimes")
    assert cell is not None
    assert "dummy_test_sometimes" in cell.values


def test_numbers_of_two_definitions_are_not_compared(
    configured: Configured, tmp_path: Path
) -> None:
    small = compared(configured, tmp_path, "measurements=[peak_memory]")
    outcome = run(small)
    with open_dict(small):
        small.measurement_library.peak_memory.batch_size = 4
        small.model.checkpoint = str(weights(tmp_path))
        small.baseline = None
    run(small)  # the baseline alone, in the same cell
    shown = compare(outcome.layout, outcome.run_id)
    assert any("another definition" in note for note in shown.notes)


def test_an_edited_function_measures_again(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(configured("measurements=[calibration,accuracy]"))
    edited = definition.file_digest(Path(calibration.__file__))
    monkeypatch.setattr(
        definition,
        "file_digest",
        lambda path: (
            "edited"
            if Path(path).stem == "calibration" and "functional" in str(path)
            else file_digest(path)
        ),
    )
    second = run(configured("measurements=[calibration,accuracy]"))
    assert edited != "edited"
    assert (second.run_id, second.measured, second.committed_before) == (first.run_id, 1, 1)


@pytest.mark.slow
def test_another_precision_is_another_artifact(configured: Configured) -> None:
    overrides = ("measurements=[accuracy]", "compressor=level")
    outcomes = [run(configured(*overrides, f"model.dtype={d}")) for d in ("float32", "bfloat16")]
    recipes = list((outcomes[0].layout.root / "recipes").iterdir())
    assert len(recipes) == 2
    assert outcomes[0].run_id != outcomes[1].run_id
    keys = [p["parts"]["numerics"]["dtype"] for p in list_records(outcomes[0].layout)]
    assert sorted(keys) == ["bfloat16", "bfloat16", "float32", "float32"]


@pytest.mark.slow
def test_a_damaged_artifact_is_moved_aside_and_made_again(configured: Configured) -> None:
    overrides = ("measurements=[accuracy]", "compressor=level")
    first = run(configured(*overrides))
    (file,) = first.layout.artifacts.glob("*/weights.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="moved aside"):
        second = run(configured(*overrides))
    assert (second.run_ids, second.measured) == (first.run_ids, 0)


def test_a_model_changed_while_it_is_measured_is_not_recorded(configured: Configured) -> None:
    config = configured("measurements=[accuracy]")
    recorder = Recorder.from_config(config)
    model = build_model(config.model, config.model_name, config.trainer)
    recorder.fingerprint(model)
    next(model.parameters()).data.zero_()
    with pytest.raises(RuntimeError, match="was changed"):
        recorder.records(model, "dummy")


def test_a_limit_beyond_the_data_is_no_limit(configured: Configured) -> None:
    first, second = run(configured(FEW)), run(configured(FEW, "limit_samples=24"))
    assert second.passes == 0
    assert first.passes == 1


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.devices=auto", "trainer.devices"),
        ("+trainer.precision=bf16-mixed", "model.dtype"),
        ("compressor.name=level", "compressor.name"),
    ],
)
def test_a_setting_without_effect_is_refused(
    configured: Configured, override: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run(configured(FEW, override))


@pytest.mark.slow
def test_a_recipe_makes_two_runs_and_is_carried_out_once(configured: Configured) -> None:
    overrides = ("measurements=[accuracy,delta,flips,params]", "compressor=l1_filter")
    first = run(configured(*overrides))
    base, compressed = (read_run(first.layout, run_id) for run_id in first.run_ids)
    assert base is not None
    assert compressed is not None
    assert compressed.baseline == base.run_id
    assert values(first)["model_test_params"] < 269_722
    delta = values(first)["dummy_test_delta_accuracy"]
    before = read_cell(first.layout, base.run_id, "accuracy")
    assert before is not None
    assert delta == pytest.approx(
        values(first)["dummy_test_accuracy"] - before.values["dummy_test_accuracy"]
    )
    second = run(configured(*overrides))
    assert (second.run_ids, second.passes, second.measured) == (first.run_ids, 0, 0)


@pytest.mark.slow
def test_the_baseline_of_a_recipe_is_the_run_of_the_model_alone(configured: Configured) -> None:
    alone = run(configured(FEW))
    both = run(configured(FEW, "compressor=level"))
    assert both.run_ids[0] == alone.run_id
    assert (both.passes, both.committed_before) == (1, 3)


def test_a_model_named_as_its_own_baseline_differs_by_nothing(
    configured: Configured, tmp_path: Path
) -> None:
    outcome = run(
        configured(
            "measurements=[accuracy,nll,selective,delta,flips,mcnemar]",
            "model@baseline=cifar_resnet20",
            f"baseline.model.checkpoint={weights(tmp_path)}",
        )
    )
    found = values(outcome)
    deltas = {key: value for key, value in found.items() if "_delta_" in key}
    assert len(deltas) == 6
    assert {(float(d), d.low, d.high) for d in deltas.values()} == {(0.0, 0.0, 0.0)}
    assert found["dummy_test_churn"] == 0
    assert found["dummy_test_mcnemar_p"] == 1


def test_a_dry_run_writes_nothing_and_says_what_is_cached(configured: Configured) -> None:
    config = configured(FEW)
    plan = dry_run(config)
    assert [(p.samples, p.stored) for p in plan.passes] == [(24, False)]
    assert {cell.state for cell in plan.cells} == {"to measure"}
    assert not Path(config.results_dir).exists()
    run(config)
    assert {cell.state for cell in dry_run(config).cells} == {"committed"}


def test_a_dry_run_of_a_recipe_compresses_nothing(configured: Configured) -> None:
    config = configured("measurements=[accuracy,flips]", "compressor=level")
    states = {(c.name, c.state) for c in dry_run(config).cells if "level" in c.run_id}
    assert states == {("accuracy", "to measure"), ("flips", "to measure")}
    assert not Path(config.results_dir).exists()


def test_every_fault_is_told_before_a_weight_is_loaded(configured: Configured) -> None:
    config = configured("model.checkpoint=/nowhere", "dataset_library.cifar10.root=/nowhere")
    config.model._target_ = "os.system"
    config.datasets = ["cifar10"]
    config.measurement_library.accuracy._target_ = "measurements.benefits.generalization.Acuracy"
    with pytest.raises(ConfigError) as caught:
        run(config)
    told = str(caught.value)
    assert told.startswith("3 faults")
    assert "os.system" in told
    assert "Acuracy" in told
    assert "/nowhere" in told


def test_an_unwritable_results_folder_is_refused(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"results_dir=.*cannot be written"):
        run(configured(FEW, f"results_dir={tmp_path / 'file' / 'results'}"))


def test_broken_rows_reach_the_table(configured: Configured, tmp_path: Path) -> None:
    state = load_file(weights(tmp_path))
    state["linear.bias"][3] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    outcome = run(
        configured(
            "measurements=[accuracy,nonfinite,nll,brier,calibration,selective]",
            f"model.checkpoint={tmp_path / 'nan.safetensors'}",
        )
    )
    assert outcome.exit_code == 0
    assert values(outcome)["dummy_test_nonfinite"] == 1
    assert values(outcome)["dummy_test_accuracy"] == 0


def test_a_model_remembers_its_name(configured: Configured) -> None:
    config = configured()
    assert (
        build_model(config.model, config.model_name, config.trainer).model_name == "cifar_resnet20"
    )


def test_random_weights_follow_the_seed(configured: Configured) -> None:
    random = ("model.checkpoint=''", "model.pretrained=false", FEW)
    first, again = run(configured(*random)), run(configured(*random))
    other = run(configured(*random, "seed=1"))
    assert (again.run_id, again.passes) == (first.run_id, 0)
    assert other.run_id != first.run_id
