"""All measurements at once, on models whose answers are known beforehand."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from core.app import CONFIG
from core.estimate import Estimate
from evaluation.run import Outcome, run
from measurements.measurement import RecordMeasurement
from models.onnx_runtime import export_onnx
from models.small.digits import DigitsCNN
from store.cells import list_cells

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the exporter's

ONE = re.compile(
    "digits_test_("
    "cka|cka_lowest_layer|layer_cka_.*|layer_identical_.*|corruption_gap_ratio|error_consistency"
    "|error_overlap|agreement|logit_cosine|logit_rank_correlation|top5_overlap|mcnemar_p"
    "|.*_p_value|worst_class_delta_p|noninferior|transfer_rate_.*|saliency_(cosine|overlap))"
)
"""Of a model and itself; all others are 0."""

NEITHER = re.compile(
    "digits_test_("
    "error_overlap_expected|noninferiority_(margin|slack)|transfer_accuracy_.*"
    "|sqnr_layers_identical|class_spread_expected|.*_n)"
)
"""Says nothing about the pair."""


def evaluated(folder: Path, *overrides: str) -> Outcome:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        config = compose("evaluate_defaults", overrides=[f"results_dir={folder}", *overrides])
    return run(config)


def paired_values(outcome: Outcome) -> dict[str, Estimate]:
    return {
        name: value
        for cell in list_cells(outcome.layout, outcome.run_id)
        if cell.kind == "paired" and cell.status == "done"
        for name, value in cell.values.items()
    }


def test_a_model_is_found_to_be_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordMeasurement, "draws", 50)
    outcome = evaluated(
        tmp_path,
        "model@baseline=digits_cnn",
        "measurement_group=compression",
        "limit_samples=100",
        "measurement_library.latency.seconds=0.1",
    )
    assert outcome.failed == []
    assert outcome.passes == outcome.necessary  # one model, looked at once
    values = paired_values(outcome)
    wanted = {name: 1 if ONE.fullmatch(name) else 0 for name in values}
    known = {name: value for name, value in values.items() if not NEITHER.fullmatch(name)}
    assert {name: value for name, value in known.items() if value != wanted[name]} == {}
    changes = {name: value for name, value in values.items() if "_delta_" in name}
    assert len(changes) > 100
    assert all({value.low, value.high} <= {0, None} for value in changes.values())


def test_a_model_of_another_runtime_goes_through_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordMeasurement, "draws", 20)
    file = export_onnx(DigitsCNN().eval(), tmp_path / "digits.onnx")
    outcome = evaluated(
        tmp_path / "results",
        "model=onnx",
        f"model.path={file}",
        "model@baseline=digits_cnn",
        "measurement_group=all",
        "limit_samples=60",
        "measurement_library.latency.seconds=0.1",
    )
    assert outcome.failed == []
    cells = {cell.measurement: cell for cell in list_cells(outcome.layout, outcome.run_id)}
    absent = {name: cell.reason for name, cell in cells.items() if cell.status != "done"}
    for name in ("adversarial", "sharpness", "effective_rank", "cka", "layer_error"):
        assert name in absent
    assert "gradients" in absent["sharpness"]
    for name in ("accuracy", "black_box", "transfer", "corruption_error", "delta.accuracy", "ood"):
        assert name in cells
        assert name not in absent, absent.get(name)
    agreement = cells["flips"].values["digits_test_agreement"]
    assert agreement == 1
