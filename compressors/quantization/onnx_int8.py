"""Integer graphs for ONNX Runtime."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
)
from onnxruntime.quantization.calibrate import TensorData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from compressors.quantization.graph import integer_types, left_in_float, nodes_of
from models.base_model import ClassifierModule
from models.onnx_runtime import onnx_graph, stripped, write_graph

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class OnnxStatic:
    """QDQ graphs with 8-bit activations (unsigned) and weights (signed, per channel).

    Ranges are measured once; `write` then quantizes any of the layers.

    Args:
        model: Left as it is.
        layers: Names of its modules that may be quantized.
        images: Batches to calibrate on, arrays [B, K, H, W] in [0, 1].
        calibration: One of METHODS.
        reduce_range: Weights of 7 bits, for processors whose sums of 8-bit products overflow.
        input_ranges: Layer -> smallest and largest of what it takes in, where that is known better
            than by `images`.
    """

    def __init__(
        self,
        model: ClassifierModule,
        layers: Iterable[str],
        images: Iterable[np.ndarray],
        *,
        calibration: str,
        reduce_range: bool,
        input_ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        noted = onnx_graph(model)
        self.nodes = nodes_of(noted, layers)
        self.graph, self.types = stripped(noted), integer_types(noted)
        self.reduce_range = reduce_range
        self.ranges = _ranges(self.graph, self.types, images, METHODS[calibration])
        for layer, known in (input_ranges or {}).items():
            self._take_over(layer, known)

    def _take_over(self, layer: str, known: tuple[float, float]) -> None:
        """Replace the range of what a layer takes in."""
        own = self.nodes.get(layer, ())
        for tensor in {node.input[0] for node in self.graph.graph.node if node.name in own}:
            if tensor in self.ranges:
                low, high = (np.array(limit, dtype=np.float32) for limit in known)
                self.ranges[tensor] = TensorData(lowest=low, highest=high)

    def write(self, path: Path, layers: Collection[str]) -> None:
        """Write the graph in which the products of `layers` are of integers."""
        quantized = {node for name in layers for node in self.nodes[name]}
        work = onnx.ModelProto()
        work.CopyFrom(self.graph)
        quantizer = QDQQuantizer(
            work,
            True,  # per channel
            self.reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            self.ranges,
            [],
            left_in_float(self.graph, quantized),
            self.types,
            {},
        )
        quantizer.quantize_model()
        write_graph(stripped(quantizer.model.model), path)


def write_dynamic(model: ClassifierModule, path: Path, layers: Iterable[str]) -> list[str]:
    """Write the graph in which `layers` multiply integers; ranges are those of each batch.

    Returns:
        Layers that the graph has.
    """
    noted = onnx_graph(model)
    nodes = nodes_of(noted, layers)
    names = [name for own in nodes.values() for name in own]
    graph = stripped(noted)
    # What it would ask for was done: constants are folded and norms merged by the export.
    graph.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        quantize_dynamic(
            graph,
            file,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*names, *(f"{name}_MatMul" for name in names)],  # a Gemm's new name
        )
        write_graph(stripped(onnx.load(file)), path)
    return list(nodes)


def _ranges(
    graph: onnx.ModelProto,
    types: list[str],
    images: Iterable[np.ndarray],
    method: CalibrationMethod,
) -> Any:
    """Smallest and largest value of every tensor between nodes of these types."""
    with tempfile.TemporaryDirectory() as folder:
        file, augmented = Path(folder) / "float.onnx", Path(folder) / "watched.onnx"
        file.write_bytes(graph.SerializeToString())
        calibrator = create_calibrator(
            file, types, augmented_model_path=str(augmented), calibrate_method=method
        )
        calibrator.collect_data(_Reader(images))
        return calibrator.compute_data()


class _Reader(CalibrationDataReader):
    """Batches under the name of the graph's input."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None after the last."""
        batch = next(self._images, None)
        return None if batch is None else {"images": batch}
