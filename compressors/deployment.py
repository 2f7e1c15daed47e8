"""What recipes share whose result is run by another runtime."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from compressors.base import Compressor, Task
from compressors.cost import cost_of
from core.errors import IncompatibleModel
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier
from models.onnx_runtime import OnnxClassifier
from models.openvino_runtime import OpenVinoClassifier


class _Kind(Protocol):
    def __call__(
        self, path: str, *, preprocessing: Mapping[str, Any], counts: Mapping[str, int]
    ) -> DeployedClassifier: ...


RUNTIMES: dict[str, tuple[_Kind, str]] = {
    "onnxruntime": (OnnxClassifier, "model.onnx"),
    "openvino": (OpenVinoClassifier, "model.xml"),
}
"""Class and name of its first file by runtime."""

SAME_WEIGHTS = (
    "no compression: the same weights, run by {runtime}; speed claims of a compressed model are "
    "made against this one, in the same runtime"
)


class Deployment(Compressor):
    """A recipe whose result is files; measurements see the model as deployed."""

    amounts: ClassVar = {}
    spares_heads: ClassVar = False

    treatable: ClassVar[tuple[str, ...]] = (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose2d",
        "Linear",
    )
    default_types: ClassVar[tuple[str, ...]] = treatable


def classifier_of(task: Task) -> ClassifierModule:
    """The task's model.

    Raises:
        IncompatibleModel: It is no classifier of ours, which would know its normalisation.
    """
    if isinstance(task.model, ClassifierModule):
        return task.model
    raise IncompatibleModel(
        f"a {type(task.model).__name__} does not know how its images are normalised: wrap it in a "
        "ClassifierModule to deploy it"
    )


def deployed(
    runtime: str, model: ClassifierModule, inputs: Tensor, write: Callable[[Path], object]
) -> DeployedClassifier:
    """What `write` puts into a file, as a classifier that knows the counts of `model`.

    Args:
        runtime: One of RUNTIMES.
        model: What the file is made of; its normalisation is in the graph.
        inputs: One batch, to count with.
        write: Function path -> writes the file there.
    """
    kind, name = RUNTIMES[runtime]
    counts = asdict(cost_of(model, inputs))
    del counts["weight_bytes"]
    folder = Path(tempfile.mkdtemp(prefix="interplay-"))
    try:
        write(folder / name)
        made = kind(str(folder / name), preprocessing=_outside(model), counts=counts)
    except BaseException:
        shutil.rmtree(folder)
        raise
    made.own(folder)
    made.model_name = model.model_name
    return made.eval()


def _outside(model: ClassifierModule) -> dict[str, Any]:
    """The preprocessing of a model whose graph normalises."""
    channels = model.preprocessing.channels
    unchanged = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    return {**model.preprocessing.as_dict(), **unchanged}
