"""torch-pruning's graph as `dependency` asks it; here, because its import takes seconds."""

from collections.abc import Sequence
from typing import Any

import torch_pruning
from torch import nn

from core.errors import IncompatibleModel

MAX_LOOK_UPS = 10_000
"""Shape look-ups before a graph counts as endless; ConvNeXt-T needs 332, DenseNet-121 848."""


class OwnCut(torch_pruning.BasePruningFunc):
    """Modules with `keep_channels`: their inputs and outputs go independently."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Tell outputs from inputs; it is not called."""
        raise AssertionError("the graph is only asked, it never removes")

    def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Tell inputs from outputs; it is not called."""
        raise AssertionError("the graph is only asked, it never removes")

    def get_out_channels(self, layer: Any) -> int:
        """How many outputs can go."""
        return len(layer.source)

    def get_in_channels(self, layer: Any) -> int:
        """How many inputs can go."""
        return int(layer.inputs)


class BoundedGraph(torch_pruning.DependencyGraph):
    """The graph, which gives up where its recursive shape inference would not end."""

    look_ups = 0

    def get_out_channels(self, module_or_node: Any) -> int | None:
        """A look-up."""
        self._count()
        return super().get_out_channels(module_or_node)

    def get_in_channels(self, module_or_node: Any) -> int | None:
        """A look-up."""
        self._count()
        return super().get_in_channels(module_or_node)

    def _count(self) -> None:
        self.look_ups += 1
        if self.look_ups > MAX_LOOK_UPS:
            raise IncompatibleModel("its dependency graph does not end")
