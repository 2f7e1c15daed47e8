"""Shape bias from the logits of an ImageNet model."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core.errors import NotApplicable
from datamodules.base import ImageDataModule
from datamodules.cue_conflict import MEMBERS, CueConflict, members
from datamodules.dummy import Dummy
from measurements.functional.intervals import wilson_interval
from measurements.properties.shape_bias import ShapeBiasEvaluation
from recording.records import Records

SHAPES = ["cat", "cat", "dog", "oven", "bird"]
TEXTURES = ["dog", "dog", "clock", "oven", "bear"]


class Conflicts(CueConflict):
    """Five images; the fourth has one class twice."""

    def groups(self, split: str) -> dict[str, list[str]]:
        return {"shape": SHAPES, "texture": TEXTURES}


def made(decided: list[str], *, classes: int = 1000, data: ImageDataModule | None = None) -> Any:
    """A model that is sure of all ImageNet classes of what it decides for."""
    logits = torch.zeros(len(decided), 1000)
    for row, name in enumerate(decided):
        logits[row, members()[list(MEMBERS).index(name)]] = 9.0
    model: Any = SimpleNamespace(num_classes=classes)
    measurement = ShapeBiasEvaluation(["toy"], model, None)  # type: ignore[arg-type]
    found = Records(
        {"sample_id": torch.arange(len(decided))}, classes=1000, parts={"logits": lambda: logits}
    )
    measurement.recorder = SimpleNamespace(  # type: ignore[assignment]
        datamodule=lambda *_: data or Conflicts(), records=lambda *_, **asked: found
    )
    return measurement


def test_decisions_for_shape_and_texture_are_counted_by_hand() -> None:
    # in turn decided for the shape, the texture, the shape, left out, for neither
    results = made(["cat", "dog", "dog", "oven", "knife"]).measure()
    assert results["toy_test_shape_bias"] == pytest.approx(2 / 3)
    bias = results["toy_test_shape_bias"]
    assert (bias.n, (bias.low, bias.high)) == (3, wilson_interval(2, 3))
    assert results["toy_test_shape_decisions"] == 2 / 4
    assert results["toy_test_texture_decisions"] == 1 / 4
    assert results["toy_test_texture_decisions"].n == 4


def test_a_model_that_goes_by_shape_alone_has_1() -> None:
    assert made(SHAPES).measure()["toy_test_shape_bias"] == 1
    assert made(TEXTURES).measure()["toy_test_shape_bias"] == 0


def test_a_subset_is_matched_by_id() -> None:
    measurement = made(["oven", "bear"])
    measurement.recorder.records()._columns["sample_id"] = torch.tensor([3, 4])
    assert measurement.measure()["toy_test_shape_bias"] == 0


def test_all_thousand_logits_are_asked_for() -> None:
    (request,) = made(SHAPES).requests()
    assert (request.classes_of, request.parts) == ("model", {"logits"})


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"classes": 10}, "the model has 10"), ({"data": Dummy()}, "of cue_conflict alone")],
    ids=["classes", "data"],
)
def test_other_models_and_datasets_have_no_shape_bias(options: Any, reason: str) -> None:
    measurement = made(SHAPES, **options)
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match=reason):
        measurement.measure()
