"""Calibration measurements: their names, units, intervals and differences."""

from typing import Any

import pytest
import torch

from measurements.functional.temperature import fit_temperature
from measurements.properties.calibration_more import (
    AdaptiveCalibrationError,
    ClasswiseCalibrationError,
    SmoothCalibrationError,
    TemperatureScaling,
)

LABELS = torch.arange(400) % 4
GENERATOR = torch.Generator().manual_seed(0)
SURE = torch.randn(400, 4, generator=GENERATOR) + 3 * torch.eye(4)[LABELS]
LESS_SURE = SURE / 4


def measured(toy: Any, kind: type, now: torch.Tensor = SURE) -> dict[str, Any]:
    return toy(kind, labels={"toy": LABELS}, now={"toy": now}).measure()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (AdaptiveCalibrationError, "toy_test_ece_adaptive"),
        (SmoothCalibrationError, "toy_test_ece_smooth"),
        (ClasswiseCalibrationError, "toy_test_ece_classwise"),
    ],
)
def test_a_biased_error_is_shown_without_interval(toy: Any, kind: type, name: str) -> None:
    results = measured(toy, kind, now=LESS_SURE)
    assert list(results) == [name]
    assert results[name].low is None
    assert results[name] > 0.02  # four times too little sharpness


def test_scaling_undoes_a_wrong_sharpness(toy: Any) -> None:
    sharp, dull = (measured(toy, TemperatureScaling, now=x) for x in (SURE, LESS_SURE))
    for name in ("toy_test_nll_scaled", "toy_test_ece_scaled"):
        assert sharp[name] == pytest.approx(dull[name], abs=2e-3)  # half precision
    assert sharp["toy_test_temperature"] / dull["toy_test_temperature"] == pytest.approx(4, 1e-3)
    assert dull["toy_test_temperature"] == pytest.approx(
        fit_temperature(LESS_SURE, LABELS), rel=0.1
    )


def test_only_the_likelihood_has_an_interval_and_nats(toy: Any) -> None:
    results = measured(toy, TemperatureScaling)
    nll = results["toy_test_nll_scaled"]
    assert nll.low < nll < nll.high
    assert (nll.unit, nll.better) == ("nats", "lower")
    temperature = results["toy_test_temperature"]
    assert (temperature.low, temperature.unit, temperature.better) == (None, "", "")
    assert results["toy_test_ece_scaled"].unit == "fraction"


def test_the_change_of_the_likelihood_is_paired(toy: Any) -> None:
    noisy = SURE + torch.randn(400, 4, generator=GENERATOR)
    measurement, other = (
        toy(TemperatureScaling, labels={"toy": LABELS}, now={"toy": x}) for x in (noisy, SURE)
    )
    now, before = measurement.records("toy"), other.records("toy")
    found = measurement.difference(now, before)["nll_scaled"]
    assert found > 0
    assert found.low < found < found.high
    same = measurement.difference(now, now)
    assert all(value == 0 for value in same.values())
    assert (same["nll_scaled"].low, same["nll_scaled"].high) == (0, 0)


def test_estimate_and_statistic_agree(toy: Any) -> None:
    measurement = toy(TemperatureScaling, labels={"toy": LABELS}, now={"toy": SURE})
    records = measurement.records("toy")
    assert measurement.statistic(records) == measurement.estimate(records)
