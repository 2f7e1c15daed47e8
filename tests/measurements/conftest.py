"""Record measurements without a model: `toy(kind, logits=..., ...)` answers from given logits."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from datamodules.dummy import Dummy
from measurements.measurement import Measurement
from recording.columns import record_columns, shifted_logits
from recording.records import Records

Answers = Mapping[str, Tensor]
"""`dataset` or `dataset/view` -> logits [N, C]."""


def records_of(logits: Tensor, labels: Tensor) -> Records:
    ids = {"sample_id": torch.arange(len(labels)), "label": labels}
    return Records(
        {**ids, **record_columns(logits, labels)},
        classes=logits.shape[1],
        parts={"logits": lambda: shifted_logits(logits)},
    )


class Model:
    """As much of a classifier as a measurement of records looks at."""

    runtime = "torch"

    def __init__(self, answers: Answers, baseline: "Model | None" = None) -> None:
        self.answers, self.baseline = answers, baseline


class Recorder:
    """Answers with what it was given."""

    def __init__(self, labels: Mapping[str, Tensor], datamodules: Mapping[str, Any]) -> None:
        self.labels, self.datamodules = labels, datamodules

    def records(self, model: Model, name: str, split: str, view: str, **_: Any) -> Records:
        key = name if view == "clean" else f"{name}/{view}"
        return records_of(model.answers[key], self.labels[name])

    def datamodule(self, name: str, model: Model) -> Any:
        return self.datamodules[name]


class Grouped(Dummy):
    """A dataset with group columns, as datasets on disk may have them."""

    columns: dict[str, list[str]]

    def groups(self, split: str) -> dict[str, list[str]]:
        return self.columns


@pytest.fixture
def toy() -> Callable[..., Any]:
    """Measurement of a kind over `labels` by dataset, with the logits of one or two models."""

    def make(
        kind: type[Measurement],
        *,
        labels: Mapping[str, Tensor],
        now: Answers,
        before: Answers | None = None,
        groups: dict[str, list[str]] | None = None,
        datasets: list[str] | None = None,
        **options: Any,
    ) -> Any:
        model = Model(now, None if before is None else Model(before))
        config = OmegaConf.create({"dataset_library": {name: {} for name in labels}})
        names = list(labels)[:1] if datasets is None else datasets
        measurement = kind(names, model, config, **options)  # type: ignore[arg-type]
        datamodules = {name: Grouped(samples=len(some)) for name, some in labels.items()}
        for datamodule in datamodules.values():
            datamodule.columns = groups or {}
        measurement.recorder = Recorder(labels, datamodules)  # type: ignore[assignment]
        return measurement

    return make


@pytest.fixture
def votes() -> Callable[..., Tensor]:
    """Logits of a model that gives its predictions a logit of `sure` and all others 0."""

    def make(predicted: list[int], *, classes: int = 3, sure: float = 4.0) -> Tensor:
        logits = torch.zeros(len(predicted), classes)
        logits[torch.arange(len(predicted)), torch.tensor(predicted)] = sure
        return logits

    return make
