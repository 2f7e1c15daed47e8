"""The conformal measurement: half of the samples judged, named and paired."""

from typing import Any

import pytest
import torch

from measurements.functional.folds import second_half
from measurements.properties.conformal import ConformalPrediction

LABELS = torch.arange(300) % 3
LOGITS = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)) + torch.eye(3)[LABELS]
NAMES = [
    f"toy_test_conformal_{what}_{how}" for how in ("lac", "aps") for what in ("coverage", "size")
]


def test_only_the_second_half_is_judged(toy: Any) -> None:
    results = toy(ConformalPrediction, labels={"toy": LABELS}, now={"toy": LOGITS}).measure()
    judged = int(second_half(torch.arange(300)).sum())
    assert list(results) == NAMES
    assert {value.n for value in results.values()} == {judged}


def test_coverage_has_no_better_and_size_has(toy: Any) -> None:
    results = toy(ConformalPrediction, labels={"toy": LABELS}, now={"toy": LOGITS}).measure()
    coverage, size = results[NAMES[0]], results[NAMES[1]]
    assert (coverage.unit, coverage.better) == ("fraction", "")
    assert (size.unit, size.better) == ("classes", "lower")
    assert coverage.low < coverage < coverage.high
    assert 1 <= size <= 3


def test_a_larger_miss_gives_smaller_sets(toy: Any) -> None:
    sizes = [
        toy(ConformalPrediction, labels={"toy": LABELS}, now={"toy": LOGITS}, miss=miss).measure()[
            NAMES[1]
        ]
        for miss in (0.05, 0.5)
    ]
    assert sizes[1] < sizes[0]


def test_a_model_against_itself_differs_by_nothing(toy: Any) -> None:
    measurement = toy(ConformalPrediction, labels={"toy": LABELS}, now={"toy": LOGITS})
    records = measurement.records("toy")
    for value in measurement.difference(records, records).values():
        assert (value, value.low, value.high) == (0, 0, 0)


def test_a_duller_model_needs_larger_sets(toy: Any) -> None:
    labels = {"toy": LABELS}
    measurement = toy(ConformalPrediction, labels=labels, now={"toy": torch.zeros(300, 3)})
    sharp = toy(ConformalPrediction, labels=labels, now={"toy": LOGITS}).records("toy")
    change = measurement.difference(measurement.records("toy"), sharp)["conformal_size_lac"]
    assert change > 0
    assert change.low < change < change.high
    assert change.unit == "classes"


def test_a_wrong_miss_is_refused(toy: Any) -> None:
    with pytest.raises(ValueError, match="in \\(0, 1\\), got 1"):
        toy(ConformalPrediction, labels={"toy": LABELS}, now={"toy": LOGITS}, miss=1)
