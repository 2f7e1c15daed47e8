"""A small store: a baseline, and a pruned model that is worse, smaller, and failed to be timed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.estimate import Estimate
from store.cells import Cell, write_cell
from store.layout import Layout
from store.records import RecordWriter
from store.runs import Run, write_run

BASE, PRUNED = "digits_cnn-none-0123456789", "digits_cnn-l1_filter-abcdef0123"


@pytest.fixture
def empty(tmp_path: Path) -> Layout:
    """Both runs, without a cell."""
    layout = Layout(tmp_path / "results")
    for run_id, compressor, baseline in ((BASE, "none", None), (PRUNED, "l1_filter", BASE)):
        run = Run(
            run_id=run_id,
            model="digits_cnn",
            compressor=compressor,
            baseline=baseline,
            fingerprint=f"weights of {compressor}",
            seed=0,
            config={"datasets": ["digits"], "limit_samples": None},
        )
        write_run(layout, run)
    return layout


@pytest.fixture
def write(empty: Layout) -> Callable[..., None]:
    """Write a cell: run id, measurement, and values by result name, or fields of a cell."""

    def write_one(run_id: str, measurement: str, **fields: Any) -> None:
        known: dict[str, Any] = {
            key: fields.pop(key) for key in ("status", "reason", "error") if key in fields
        }
        given: dict[str, Any] = {"status": "done", **known, "values": fields}
        write_cell(empty, run_id, Cell(measurement=measurement, key="k", **given))

    return write_one


@pytest.fixture
def layout(empty: Layout, write: Callable[..., None]) -> Layout:
    def share(value: float, low: float, high: float, better: Any = "higher") -> Estimate:
        return Estimate(value, n=360, low=low, high=high, unit="fraction", better=better)

    def counted(value: float, unit: str) -> Estimate:
        return Estimate(value, unit=unit, better="lower")

    write(BASE, "accuracy", digits_test_accuracy=share(0.975, 0.953, 0.987))
    write(PRUNED, "accuracy", digits_test_accuracy=share(0.95, 0.922, 0.968))
    write(PRUNED, "delta", digits_test_delta_accuracy=share(-0.025, -0.0444, -0.0056))
    write(BASE, "params", model_test_params=counted(269_722, "parameters"))
    write(PRUNED, "params", model_test_params=counted(83_614, "parameters"))
    write(PRUNED, "flips", digits_test_churn=share(0.03, 0.017, 0.053, "lower"))
    for name in ("delta", "flips"):
        write(BASE, name, status="not_applicable", reason="the model has no baseline")
    write(BASE, "latency", model_test_latency_p50_ms=counted(1.5, "ms"))
    write(PRUNED, "latency", status="failed", reason="RuntimeError: no clock", error="Traceback")
    write(BASE, "fgsm", digits_test_fgsm=share(0.4, 0.35, 0.45))
    no_gradients = "a model run by onnxruntime has no gradients"
    write(PRUNED, "fgsm", status="not_applicable", reason=no_gradients)
    return empty


@pytest.fixture
def record(empty: Layout) -> Callable[..., str]:
    """Write records of a model over the clean test split; the label is the sample id modulo 3.

    Arguments: the compressor of the run, the predictions, and parts of the pass that differ.
    Returns the key.
    """

    def write_records(compressor: str, predicted: list[int], **parts: Any) -> str:
        ids = np.arange(len(predicted))
        columns = {
            "sample_id": ids,
            "label": ids % 3,
            "predicted": np.array(predicted),
            "confidence": ((ids + 1) / 16).astype(np.float32),
        }
        described = {"model": f"weights of {compressor}", "split": "test", "subset": None}
        all_parts = {**described, "dataset": "m", "view": {"name": "clean"}, **parts}
        key = "-".join([compressor, *map(str, parts)])
        with RecordWriter(empty, key) as writer:
            writer.append(columns)
            writer.commit({"parts": all_parts, "datamodule": "digits"})
        return key

    return write_records


@dataclass
class Sweep:
    """A store written by hand, one line a run."""

    layout: Layout

    def run(self, name: str, of: str | None = None, **fields: Any) -> str:
        """Write a run; `of` is its baseline's id, `recipe` the compressor's parameters."""
        recipe = fields.pop("recipe", {} if of is None else {"sparsity": 0.5})
        step = {"_target_": "x.Y", "name": "level", **recipe}
        operation = {"name": "level", "parameters": {"compressor": step}}
        given = {
            "model": "net",
            "compressor": "none" if of is None else "level",
            "fingerprint": f"weights of {name}",
            "seed": 0,
            "config": {"model": {"checkpoint": name}, "datasets": ["digits"]},
            "lineage": {} if of is None else {"base_id": of, "operation": operation},
            **fields,
        }
        write_run(self.layout, Run(run_id=name, baseline=of, **given))
        return name

    def cell(self, run_id: str, kind: str, key: str = "k", **values: float) -> None:
        """Write one cell with these values; its name is the first one's."""
        name = next(iter(values))
        cell = Cell(measurement=name, key=key, status="done", values=values, kind=kind)
        write_cell(self.layout, run_id, cell)

    def records(self, key: str, predicted: list[int], label: list[int]) -> str:
        """Write records of ids 0, 1, ... of four classes; returns the key."""
        columns = {
            "sample_id": np.arange(len(label)),
            "label": np.array(label),
            "predicted": np.array(predicted),
        }
        with RecordWriter(self.layout, key) as writer:
            writer.append(columns)
            writer.commit({"classes": 4, "datamodule": "digits"})
        return key


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(Layout(tmp_path / "sweep"))
