"""Models as deployed: an ONNX file run by ONNX Runtime, as a classifier."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from core.errors import DataError
from core.files import private_name
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier, Session, require_equal
from models.examples import example_images


class OnnxClassifier(DeployedClassifier):
    """A classifier out of an ONNX file.

    Args:
        path: The file; one input [B, K, H, W] float32, logits [B, C] as first output.
        preprocessing: As in DeployedClassifier.
        threads: Of the session; None for torch's number.
        counts: As in DeployedClassifier.
    """

    runtime = "onnxruntime"

    def __init__(
        self,
        path: str,
        *,
        preprocessing: Mapping[str, Any] | None = None,
        threads: int | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        session = OnnxSession(Path(path), threads)
        super().__init__(session, preprocessing=preprocessing, counts=counts)

    @property
    def files(self) -> dict[str, Path]:
        """The ONNX file."""
        return {"path": self.session.path}


class OnnxSession(Session):
    """An inference session on the CPU."""

    def open(self) -> onnxruntime.InferenceSession:
        """The session of ONNX Runtime."""
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no ONNX file at {self.path}; set model.path")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or torch.get_num_threads()
        try:
            return onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no base class of their own
            raise DataError(
                f"{self.path} is no ONNX file that onnxruntime {onnxruntime.__version__} can run: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def run(self, pixels: Any) -> Any:
        """The first output."""
        (name,) = (node.name for node in self.opened.get_inputs())
        return self.opened.run(None, {name: pixels})[0]

    @property
    def shapes(self) -> tuple[list[list[int | None]], list[int | None]]:
        """As the file says."""
        inputs = [_sizes(node) for node in self.opened.get_inputs()]
        return inputs, _sizes(self.opened.get_outputs()[0])


def export_onnx(model: ClassifierModule, path: Path) -> Path:
    """Write `model` with its normalisation as an ONNX file, verified against the model.

    Args:
        model: Left as it is; exported in eval mode with a free batch size.
        path: Replaced only by a file that gives the model's logits.

    Returns:
        `path`; images go in as they are, in [0, 1].

    Raises:
        IncompatibleModel: The file gives other logits.
    """
    write_graph(stripped(onnx_graph(model)), path, same_as=model)
    return path


def onnx_graph(model: ClassifierModule) -> onnx.ModelProto:
    """The model with its normalisation as an ONNX graph; nodes say of which layer they are.

    Args:
        model: Left as it is; exported in eval mode with a free batch size.
    """
    twin = copy.deepcopy(model).cpu().eval()
    program = torch.onnx.export(
        _Plain(twin).eval(),
        (example_images(twin, 2),),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None, "only the exporter of old returns nothing"
    return cast(onnx.ModelProto, program.model_proto)


def stripped(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what no runtime needs: notes of the exporter and shapes in between."""
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    bare.graph.ClearField("value_info")
    parts = (bare, bare.graph, *bare.functions)
    nodes = (node for part in (bare.graph, *bare.functions) for node in part.node)
    for part in (*parts, *nodes, *bare.graph.initializer, *bare.graph.input, *bare.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return bare


def write_graph(
    graph: onnx.ModelProto, path: Path, *, same_as: ClassifierModule | None = None
) -> None:
    """Write a graph; where it has to give the logits of a model, only if it does.

    Raises:
        IncompatibleModel: It gives other logits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = private_name(path)
    try:
        partial.write_bytes(graph.SerializeToString(deterministic=True))
        if same_as is not None:
            twin = copy.deepcopy(same_as).cpu().eval()
            require_equal(twin, OnnxClassifier(str(partial)), example_images(twin, 3))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class _Plain(nn.Module):
    """The model without what only training knows."""

    def __init__(self, model: ClassifierModule) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.register_buffer("mean", torch.tensor(model.preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(model.preprocessing.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        mean, std = cast(Tensor, self.mean), cast(Tensor, self.std)
        return cast(Tensor, self.backbone((images - mean) / std))


def _sizes(node: Any) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in node.shape]
