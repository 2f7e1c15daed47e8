"""What a cell is the result of, whether it can be had, and measuring it."""

import math
import time
import traceback
from collections.abc import Mapping
from typing import Any

from core.digest import digest
from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import require_key
from evaluation.provenance import machine_identity
from measurements.definition import definition_of
from measurements.measurement import Measurement, PairedMeasurement
from store.cells import Cell
from store.disk import is_of_the_disk


def cell_key(measurement: Measurement, entry: Mapping[str, Any]) -> str:
    """Digest of everything that decides a cell's values, beside its run.

    What is timed belongs to the machine as well.
    """
    machine = machine_identity() if "timing" in measurement.needs else {}
    known = {"kind": measurement.kind, "machine": machine}
    return digest({**definition_of(measurement, entry), **known})


def obstacle(measurement: Measurement) -> str:
    """Why a measurement has no meaning for its model; empty where it has one."""
    if isinstance(measurement, PairedMeasurement) and measurement.model.baseline is None:
        return "the model has no baseline to compare with"
    if "gradients" in measurement.needs and measurement.model.runtime != "torch":
        return f"a model run by {measurement.model.runtime} has no gradients"
    return ""


def measured_cell(name: str, key: str, measurement: Measurement, taken: Mapping[str, str]) -> Cell:
    """Measure now; a failure becomes a cell with its traceback, and the others go on.

    Args:
        name: Library entry of the measurement.
        key: Of the cell.
        measurement: Ready to measure.
        taken: Result key -> measurement of the same run that has given it already.
    """
    started = time.perf_counter()
    reason = obstacle(measurement)
    values: dict[str, Estimate] = {}
    error = ""
    try:
        if not reason:
            values = _checked(measurement, taken)
    except NotApplicable as absent:
        reason = str(absent)
    except Exception as failure:
        if is_of_the_disk(failure):
            raise  # nothing after it could be stored either
        reason, error = f"{type(failure).__name__}: {failure}", traceback.format_exc()
    return Cell(
        measurement=name,
        key=key,
        status="failed" if error else "not_applicable" if reason else "done",
        values=values,
        kind=measurement.kind,
        version=measurement.version,
        seconds=round(time.perf_counter() - started, 3),
        reason=reason,
        error=error,
    )


def _checked(measurement: Measurement, taken: Mapping[str, str]) -> dict[str, Estimate]:
    """Values as estimates: names follow the grammar and are new, numbers are finite."""
    values = {}
    for name, value in measurement.measure().items():
        require_key(name)
        if name in taken:
            raise ValueError(f"{name} is already given by the measurement {taken[name]!r}")
        estimate = value if isinstance(value, Estimate) else measurement.value(float(value))
        for number in (estimate, estimate.low, estimate.high):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} is {estimate!r}, not a number that can be stored")
        values[name] = estimate
    if not values:
        raise ValueError("measure() returned no value; raise NotApplicable(reason) instead")
    return values
