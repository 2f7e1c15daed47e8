"""A probe of features that are written down."""

from typing import Any

import pytest
import torch

from core.errors import ConfigError, NotApplicable
from datamodules.dummy import Dummy
from measurements.properties.transfer_probe import TransferProbe
from recording.records import Records


class Lines:
    """Features on a line; those of the dataset `far` lie elsewhere. Notes what it was asked."""

    def __init__(self, classes: int = 2) -> None:
        self.classes, self.asked = classes, []  # type: ignore[var-annotated]

    def records(self, model: Any, name: str, split: str, view: str, **asked: Any) -> Records:
        self.asked.append((name, split, asked["samples"]))
        places = [0.0, 1, 4, 5] if name == "toy" else [0.5, 4.5, 2.9, 5.5]
        columns = {
            "sample_id": torch.arange(4),
            "label": torch.tensor([0, 0, 1, 1] if name == "toy" else [0, 1, 0, 1]),
            "finite": torch.ones(4, dtype=torch.bool),
        }
        features = torch.tensor(places).unsqueeze(1)
        return Records(columns, classes=2, parts={"features": lambda: features})

    def datamodule(self, name: str, model: Any) -> Dummy:
        return Dummy(num_classes=2 if name == "toy" else self.classes)


def probe(toy: Any, classes: int = 2, **options: Any) -> Any:
    empty = torch.zeros(1, dtype=torch.int64)
    made = toy(TransferProbe, labels={"toy": empty, "far": empty}, now={}, **options)
    made.recorder = Lines(classes)
    return made


def test_three_of_four_are_on_the_right_side(toy: Any) -> None:
    made = probe(toy, others=["far"], samples=9)
    found = made.measure()  # the probe's bound is 2.5: that at 2.9 is wrong
    assert found == {"toy_test_transfer_probe_far": 0.75}
    assert found["toy_test_transfer_probe_far"].n == 4
    assert made.recorder.asked == [("toy", "train", 9), ("far", "test", None)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "no other dataset"),
        ({"others": ["far"], "classes": 3}, "toy has 2 classes, far 3"),
        ({"others": ["toy"]}, "no other than itself"),
    ],
)
def test_without_a_dataset_of_the_same_classes(toy: Any, options: Any, reason: str) -> None:
    made = probe(toy, **options)
    assert made.requests() == []
    with pytest.raises(NotApplicable, match=reason):
        made.measure()


def test_an_unknown_dataset_is_named(toy: Any) -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'fra', did you mean 'far'"):
        probe(toy, others=["fra"])
