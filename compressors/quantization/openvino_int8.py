"""Integer networks for OpenVINO, made by its own quantizer, nncf."""

import logging
import os
import sys
import tempfile
from collections.abc import Collection, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compressors.quantization.graph import PRODUCTS, nodes_of
from core.optional import require
from models.base_model import ClassifierModule
from models.onnx_runtime import onnx_graph, stripped, write_graph

WITHOUT_BIAS = "/WithoutBiases"
"""What OpenVINO appends to the name of a node whose bias it makes a node of its own."""


class OpenVinoStatic:
    """Networks with 8-bit weights (per channel) and activations.

    Args:
        model: Left as it is.
        layers: Names of its modules that may be quantized.
        images: Batches to calibrate on, arrays [B, K, H, W] in [0, 1].
        reduce_range: Weights of 7 bits, for processors whose sums of 8-bit products overflow;
            else the first layer alone has them.
    """

    def __init__(
        self,
        model: ClassifierModule,
        layers: Iterable[str],
        images: Iterable[np.ndarray],
        *,
        reduce_range: bool,
    ) -> None:
        self.openvino, self.nncf = require("openvino", extra="openvino"), _nncf()
        noted = onnx_graph(model)
        types = {node.op_type for node in noted.graph.node}
        self.nodes = nodes_of(noted, layers)
        self.products = [node.name for node in noted.graph.node if node.op_type in PRODUCTS]
        self.is_transformer = "LayerNormalization" in types
        self.graph, self.reduce_range = stripped(noted), reduce_range
        self.images = [image[None] for batch in images for image in batch]

    def write(self, path: Path, layers: Collection[str]) -> None:
        """Write the network in which the products of `layers` are of integers."""
        quantized = {node for name in layers for node in self.nodes[name]}
        network = self._network()
        with redirect_stdout(sys.stderr):  # its progress
            made = self.nncf.quantize(
                network,
                self.nncf.Dataset(self.images),
                subset_size=len(self.images),
                preset=self.nncf.QuantizationPreset.MIXED,
                model_type=self.nncf.ModelType.TRANSFORMER if self.is_transformer else None,
                ignored_scope=self._ignored(network, set(self.products) - quantized),
                advanced_parameters=self._advanced(),
            )
        for index, op in enumerate(made.get_ordered_ops()):  # its own names count up in a process
            op.set_friendly_name(f"{op.get_type_name()}_{index}")
        self.openvino.save_model(made, str(path), compress_to_fp16=False)

    def _network(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            write_graph(self.graph, Path(folder) / "model.onnx")
            return self.openvino.Core().read_model(str(Path(folder) / "model.onnx"))

    def _ignored(self, network: Any, nodes: Collection[str]) -> Any:
        there = [op.get_friendly_name() for op in network.get_ordered_ops()]
        names = [name for name in there if name.removesuffix(WITHOUT_BIAS) in nodes]
        return self.nncf.IgnoredScope(names=names)

    def _advanced(self) -> Any:
        fix = self.nncf.OverflowFix
        return self.nncf.AdvancedQuantizationParameters(
            overflow_fix=fix.ENABLE if self.reduce_range else fix.FIRST_LAYER
        )


def _nncf() -> ModuleType:
    """The quantizer, quiet: it would tell its maker what it is used for."""
    os.environ.setdefault("NNCF_CI", "1")
    module = require("nncf", extra="openvino")
    module.set_log_level(logging.WARNING)
    return module
