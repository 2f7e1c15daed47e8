"""What a measurement gives: names of its results, found by measuring some embedded digits."""

import inspect
import tempfile
from copy import deepcopy

import torch

from core.configuration import plain
from core.errors import NotApplicable
from core.targets import build, resolve
from measurements.catalogue import composed, with_parts
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.recorder import Recorder

SAMPLES = 60
"""Digits a rehearsal looks at: enough for every class to occur."""


def rehearse(name: str) -> dict[str, float]:
    """Measure some of the embedded digits with the embedded model, rounded to half precision.

    Raises:
        NotApplicable: The measurement has no meaning there.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = ",".join(with_parts(name))
        config = composed(
            f"measurements=[{names}]", f"limit_samples={SAMPLES}", f"results_dir={folder}"
        )
        model = _rounded(build(plain(config.model), expects=ClassifierModule).eval())
        model.model_name = config.model_name
        entry = plain(config.measurement_library)[name]
        kind = resolve(entry["_target_"], expects=Measurement)
        brief = {"seconds": 0.1} if "seconds" in inspect.signature(kind).parameters else {}
        recorder, results = Recorder.from_config(config), dict[str, float]()
        for more in (kind.split_up(config) or {name: {}}).values():
            measurement = build(
                {**entry, **brief, **more},
                expects=Measurement,
                model=model,
                experiment_config=config,
            )
            measurement.recorder = recorder
            results |= measurement.measure()
        return results


def outcome(name: str) -> dict[str, float] | str:
    """What `rehearse` gives, or the reason why it gives nothing."""
    try:
        return rehearse(name)
    except NotApplicable as reason:
        return str(reason)


def _rounded(model: ClassifierModule) -> ClassifierModule:
    """The model with weights of 8 significant bits, and itself as its baseline."""
    model.baseline = deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model
