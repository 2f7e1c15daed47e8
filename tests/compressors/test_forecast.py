import itertools
import logging
import time

import pytest
import torch
from torch import nn

from compressors.base import Task
from compressors.forecast import announce, in_words
from compressors.resources import Resources
from compressors.selection import Selection
from compressors.tracing import look_at

BATCH = torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])


def said(caplog: pytest.LogCaptureFixture, **known: object) -> str:
    model = nn.Linear(3, 2)
    given = Resources(
        batches=lambda _: [BATCH], score=lambda _: 0.0, train=lambda *_, **__: None, **known
    )
    task = Task(
        model=model,
        example_inputs=BATCH[0],
        selection=Selection(sparsity={}),
        prefix="",
        heads=(),
        look=look_at(model, BATCH[0]),
        resources=given,
    )
    with caplog.at_level(logging.INFO):
        announce("admm", task, epochs=30)
    assert model.weight.grad is None
    return caplog.messages[-1]


def test_a_duration_has_the_unit_that_fits() -> None:
    assert [in_words(s) for s in (0, 89.4, 150, 5399, 5400)] == [
        "1 s",
        "89 s",
        "2 min",
        "90 min",
        "2 h",
    ]


def test_the_time_of_a_batch_gives_that_of_the_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = itertools.count(step=2.0)
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    # two seconds for 4 samples, so 5 for 10, and 150 for 30 epochs
    assert said(caplog, tuning_samples=lambda: 10) == (
        "admm: 30 epochs of training to come, about 2 min or a little more"
    )


def test_without_the_number_of_samples_only_epochs_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert said(caplog) == "admm: 30 epochs of training to come"
