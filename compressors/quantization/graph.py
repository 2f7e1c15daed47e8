"""Layers of a model in its graph: which nodes are theirs, and which of them are quantized."""

import ast
from collections.abc import Collection, Iterable

import onnx

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Nodes that multiply with weights: where integers are faster."""

BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""What a convolutional network does between them; in integers, nothing is converted back."""

SCOPES = "pkg.torch.onnx.name_scopes"


def nodes_of(graph: onnx.ModelProto, layers: Iterable[str]) -> dict[str, list[str]]:
    """Names of the product nodes of each layer, by the weight they use or the exporter's note.

    Args:
        graph: As exported, with its notes.
        layers: Names of modules of the exported one, such as `backbone.conv1`.

    Returns:
        Layers that have none are left out.
    """
    wanted = set(layers)
    found: dict[str, list[str]] = {}
    for node in graph.graph.node:
        if node.op_type in PRODUCTS:
            notes = {entry.key: entry.value for entry in node.metadata_props}
            scopes = ast.literal_eval(notes.get(SCOPES, "[]"))
            weights = {name.removesuffix(".weight") for name in node.input}
            for name in wanted & {*weights, *scopes}:
                found.setdefault(name, []).append(node.name)
    return {name: found[name] for name in layers if name in found}


def left_in_float(graph: onnx.ModelProto, quantized: Collection[str]) -> list[str]:
    """Product nodes that are not among `quantized`, such as the products of attention."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type in PRODUCTS and node.name not in quantized
    ]


def integer_types(graph: onnx.ModelProto) -> list[str]:
    """Types of nodes that may become integers.

    In a network with layer normalisation the sums carry outliers that 256 levels do not hold, so
    its products alone do.
    """
    types = {node.op_type for node in graph.graph.node}
    return [*PRODUCTS] if "LayerNormalization" in types else [*PRODUCTS, *BETWEEN]
