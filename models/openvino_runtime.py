"""Models as deployed: a network of OpenVINO, as a classifier."""

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError, DataError
from core.optional import require
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier, Session, require_equal
from models.examples import example_images
from models.onnx_runtime import onnx_graph, stripped, write_graph

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoClassifier(DeployedClassifier):
    """A classifier out of the two files of OpenVINO.

    Args:
        path: The graph, `model.xml`; one input [B, K, H, W] float32, logits [B, C] as first output.
        weights: Its numbers; left out: the file beside it that ends in `.bin`.
        preprocessing: As in DeployedClassifier.
        threads: Of the network; None for torch's number.
        counts: As in DeployedClassifier.
        dtype: `float32` or `bfloat16`. Left alone, OpenVINO rounds to bfloat16 on processors that
            have it; here it does so only where it is asked to.
    """

    runtime = "openvino"

    def __init__(
        self,
        path: str,
        weights: str = "",
        *,
        preprocessing: Mapping[str, Any] | None = None,
        threads: int | None = None,
        counts: Mapping[str, int] | None = None,
        dtype: str = "float32",
    ) -> None:
        if dtype not in PRECISIONS:
            raise ConfigError([f"model.dtype is one of {', '.join(PRECISIONS)}, got {dtype!r}"])
        numbers = Path(weights) if weights else Path(path).with_suffix(".bin")
        session = OpenVinoSession(Path(path), threads, weights=numbers, dtype=dtype)
        super().__init__(session, preprocessing=preprocessing, counts=counts, dtype=dtype)

    @property
    def files(self) -> dict[str, Path]:
        """Graph and numbers."""
        return {"path": self.session.path, "weights": self.session.options["weights"]}


class OpenVinoSession(Session):
    """A compiled network on the CPU."""

    def open(self) -> Any:
        """The compiled network of OpenVINO."""
        openvino = require("openvino", extra="openvino")
        weights = self.options["weights"]
        for path in (self.path, weights):
            if not path.is_file():
                raise FileNotFoundError(f"there is no OpenVINO file at {path}; set model.path")
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[self.options["dtype"]],
            "INFERENCE_NUM_THREADS": self.threads or torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        core = openvino.Core()
        try:
            network = core.read_model(str(self.path), str(weights))
            return core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            reason = [line for line in str(error).splitlines() if line.strip()][-1]
            raise DataError(
                f"{self.path} is no network that openvino {openvino.__version__} can run: {reason}"
            ) from error

    def run(self, pixels: Any) -> Any:
        """The first output, in memory of its own."""
        return self.opened(pixels)[0].copy()

    @property
    def shapes(self) -> tuple[list[list[int | None]], list[int | None]]:
        """As the file says."""
        inputs, outputs = (
            [[s.get_length() if s.is_static else None for s in p.partial_shape] for p in ports]
            for ports in (self.opened.inputs, self.opened.outputs)
        )
        return inputs, outputs[0]


def export_openvino(model: ClassifierModule, path: Path) -> Path:
    """Write `model` with its normalisation for OpenVINO, verified against the model.

    Args:
        model: Left as it is.
        path: Graph, ending in `.xml`; its numbers go beside it, in float32.

    Returns:
        `path`; images go in as they are, in [0, 1].

    Raises:
        IncompatibleModel: The files give other logits.
        MissingDependency: OpenVINO is not installed.
    """
    openvino = require("openvino", extra="openvino")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        graph, written = Path(folder) / "model.onnx", Path(folder) / path.name
        write_graph(stripped(onnx_graph(model)), graph)
        network = openvino.Core().read_model(str(graph))
        openvino.save_model(network, str(written), compress_to_fp16=False)
        twin = copy.deepcopy(model).cpu().eval()
        require_equal(twin, OpenVinoClassifier(str(written)), example_images(twin, 3))
        for file in (written.with_suffix(".bin"), written):
            file.replace(path.parent / file.name)
    return path
