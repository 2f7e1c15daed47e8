"""Models as deployed: an ONNX file run by ONNX Runtime, as a classifier."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import onnxruntime
import torch
from torch import Tensor, nn

from core.digest import digest, file_digest
from core.errors import DataError, IncompatibleModel, NotApplicable
from core.files import private_name
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule
from models.examples import example_images

TOLERANCE = 1e-3
"""Largest distance, relative to the largest logit, of an export from its model."""


class OnnxClassifier(ClassifierModule):
    """A classifier out of an ONNX file, with the normalisation inside or before the graph.

    It has no gradients and no parameters that torch could see; measurements that need them are not
    applicable.

    Args:
        path: The file; one input [B, K, H, W] float32, logits [B, C] as first output.
        preprocessing: How the graph wants its images, fields of `core.Preprocessing`. Left out:
            the size is that of the input, and images go in as they are, in [0, 1].
        threads: Of the session; None for torch's number.
        counts: `params`, `nonzero_params` and `macs` of the network the file was made of, if known.
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
        self._counts = None if counts is None else dict(counts)
        network = _Session(Path(path), threads)
        shape = network.input_shape
        given = {key: _tuple(value) for key, value in (preprocessing or {}).items()}
        channels = shape[1]
        self._wanted = Preprocessing(
            **{
                "size": (shape[2], shape[3]),
                "mean": (0.0,) * channels,
                "std": (1.0,) * channels,
                **given,
            }
        )
        self._network = [network]  # in a list: torch makes an attribute that is a module a part
        super().__init__(num_classes=network.width, pretrained=False)

    def load_backbone(self) -> nn.Module:
        """The session as a module."""
        return self._network[0]

    def default_preprocessing(self) -> Preprocessing:
        """What the constructor was told, or what the graph's input says."""
        return self._wanted

    @property
    def files(self) -> dict[str, Path]:
        """The ONNX file."""
        return {"path": self._network[0].path}

    @property
    def counts(self) -> Mapping[str, int] | None:
        """As the constructor was told."""
        return self._counts

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Not known: a graph has no layers to ask.

        Raises:
            NotApplicable: Always.
        """
        raise NotApplicable("a model run by onnxruntime gives logits, not features")

    def fingerprint(self) -> str:
        """Digest of the file, of what is done before it, and of the runtime."""
        network = self._network[0]
        return digest(
            {
                "file": file_digest(network.path),
                "preprocessing": self.preprocessing.as_dict(),
                "onnxruntime": onnxruntime.__version__,
            }
        )


class _Session(nn.Module):
    """An inference session that can be copied and sent to another process."""

    def __init__(self, path: Path, threads: int | None) -> None:
        super().__init__()
        if not path.is_file():
            raise FileNotFoundError(f"there is no ONNX file at {path}; set model.path")
        self.path, self.threads = path, threads
        self.session = self._open()

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images."""
        (name,) = (node.name for node in self.session.get_inputs())
        pixels = images.detach().cpu().contiguous().numpy()
        return torch.from_numpy(self.session.run(None, {name: pixels})[0])

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Batch (1 where it is free), channels, height, width."""
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or not all(isinstance(size, int) for size in shape[1:]):
            raise IncompatibleModel(
                f"{self.path}: expected one input [batch, channels, height, width] with fixed "
                f"channels and size, got {[(node.name, node.shape) for node in inputs]}"
            )
        return 1, shape[1], shape[2], shape[3]

    @property
    def width(self) -> int:
        """Number of logits."""
        shape = self.session.get_outputs()[0].shape
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise IncompatibleModel(
                f"{self.path}: expected logits [batch, classes] as first output, got {shape}"
            )
        return shape[1]

    def _open(self) -> onnxruntime.InferenceSession:
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

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.session = self._open()


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
    twin = copy.deepcopy(model).cpu().eval()
    images = example_images(twin, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = private_name(path)
    try:
        torch.onnx.export(
            _Plain(twin),
            (images,),
            str(partial),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        _require_equal(twin, OnnxClassifier(str(partial)), example_images(twin, 3))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


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


def _require_equal(model: ClassifierModule, exported: ClassifierModule, images: Tensor) -> None:
    with torch.no_grad():
        expected, got = model(images), exported(images)
    off = float((expected - got).abs().max())
    if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise IncompatibleModel(f"the ONNX file gives other logits than the model, {off:.3g} away")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
