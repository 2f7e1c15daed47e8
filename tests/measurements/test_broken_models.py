"""Models that answer with NaN, and data of a sample or two: a reason, never a failure."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from core.app import CONFIG
from core.errors import NotApplicable
from evaluation.library import build_measurements, build_model
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.recorder import Recorder


@cache
def defaults() -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        return compose("evaluate_defaults")


def composed(root: Path, **options: Any) -> DictConfig:
    config = copy.deepcopy(defaults())
    for name, value in {"results_dir": str(root), **options}.items():
        config[name] = value
    return config


def made(name: str, config: DictConfig, *, broken: bool = False) -> Measurement:
    """A measurement of the embedded model, or of one of which every weight is NaN."""
    baseline = build_model(config.model, config.model_name, config.trainer)
    model = copy.deepcopy(baseline)
    if broken:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(torch.nan)
    model.baseline = baseline
    ((_, _, measurement),) = build_measurements(name, model, config, Recorder.from_config(config))
    return measurement


@pytest.mark.parametrize(
    "name",
    ["batch_dependence", "boundary_distance", "disentanglement", "equivariance", "sharpness",
     "spectral_norms"],
)  # fmt: skip
def test_a_model_of_nan_has_no_value(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match=r"finite|0 samples|can be moved"):
        made(name, composed(tmp_path, limit_samples=8), broken=True).measure()


@pytest.mark.parametrize("name", ["invariance", "invariance_delta", "disentanglement"])
def test_one_sample_is_too_few(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match=r"one sample|1 samples"):
        made(name, composed(tmp_path, limit_samples=1)).measure()


def test_images_without_finite_logits_have_no_part_in_batch_dependence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = made("batch_dependence", composed(tmp_path, limit_samples=8, batch_size=4))
    whole, first = measurement.measure(), ClassifierModule.forward

    def darkest_is_nan(model: ClassifierModule, images: torch.Tensor) -> torch.Tensor:
        logits = first(model, images)
        dark = images.flatten(1).sum(dim=1) < limit
        return logits.masked_fill(dark[:, None], torch.nan)

    given = measurement.recorder.images(measurement.model, "digits", samples=8)
    sums = torch.cat([batch.images.flatten(1).sum(dim=1) for batch in given]).sort().values
    limit = sums[2:4].mean()  # three are darker
    monkeypatch.setattr(type(measurement.model), "forward", darkest_is_nan)
    found = measurement.measure()
    assert [value.n for value in whole.values()] == [8, 8]  # type: ignore[attr-defined]
    assert [value.n for value in found.values()] == [5, 5]  # type: ignore[attr-defined]


def test_batch_dependence_of_other_batches_is_another_measurement(tmp_path: Path) -> None:
    four, eight = (
        made("batch_dependence", composed(tmp_path, batch_size=size)).definition()
        for size in (4, 8)
    )
    assert four != eight
