"""Datasets whose labels no model knows."""

from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from core.errors import ConfigError
from core.preprocessing import Preprocessing
from datamodules.base import ImageDataModule
from datamodules.dummy import Dummy
from datamodules.factors import Factors
from evaluation.validate import require_fitting


def required(datamodule: ImageDataModule, *, runtime: str = "torch") -> None:
    library = {"measurement_library": {}, "measurements": [], "datasets": ["toy"]}
    model: Any = SimpleNamespace(
        num_classes=10,
        model_name="ten",
        runtime=runtime,
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    recorder: Any = SimpleNamespace(datamodule=lambda *_: datamodule)
    require_fitting(model, OmegaConf.create(library), recorder)


def test_foreign_labels_fit_any_model_and_own_ones_must_fit() -> None:
    assert Factors().num_classes == 3
    required(Factors())
    with pytest.raises(ConfigError, match="toy needs a model of 3 classes, ten has 10"):
        required(Dummy(num_classes=3))


@pytest.mark.parametrize(
    ("runtime", "advice"),
    [
        ("torch", "pass model.num_classes=3 and a checkpoint with them, or choose another of the"),
        ("onnxruntime", "choose another of the two"),
    ],
)
def test_a_model_whose_head_can_be_another_is_told_how(runtime: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=f"ten has 10; {advice}"):
        required(Dummy(num_classes=3), runtime=runtime)
