"""From names in a configuration to measurement and model objects."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig

from core.configuration import plain
from core.errors import ConfigError, pick
from core.targets import build, resolve
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.recorder import Recorder


def build_model(node: DictConfig, name: str, trainer: DictConfig) -> ClassifierModule:
    """Model of a configuration node, in eval mode, on the trainer's device."""
    model = build(plain(node), expects=ClassifierModule)
    model.model_name = name
    return model.eval().to(device_for(trainer.get("accelerator", "auto")))


def device_for(accelerator: str) -> torch.device:
    """Device of one process, by Lightning's name for the hardware.

    Raises:
        ConfigError: The hardware is not there.
    """
    if accelerator == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if accelerator not in ("gpu", "cuda"):
        return torch.device(accelerator)
    if not torch.cuda.is_available():
        raise ConfigError([f"trainer.accelerator={accelerator}, but no GPU is visible; use cpu"])
    return torch.device("cuda")


def build_measurements(
    name: str, model: ClassifierModule, config: DictConfig, recorder: Recorder
) -> Iterator[tuple[str, dict[str, Any], Measurement]]:
    """Cell name, entry and measurement of each cell of a library entry, sharing one recorder."""
    entry = plain(pick("measurement", name, config.measurement_library))
    kind = resolve(entry["_target_"], expects=Measurement)
    for cell, more in (kind.split_up(config) or {name: {}}).items():
        whole = {**entry, **more}
        measurement = build(whole, expects=Measurement, model=model, experiment_config=config)
        measurement.recorder = recorder
        yield cell, whole, measurement
