"""Which channels have to go together: torch-pruning's dependency graph behind our own terms.

Only the graph is used. It is asked with explicit indices and never removes anything itself: what
it answers becomes edits. Two of its traps are closed here: it skips frozen parameters without a
word, and on some networks (shifted windows) its shape inference does not end.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compressors.tracing import traceable
from core.errors import IncompatibleModel
from models.edits import Edits, Side

FOLLOWED = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.PReLU,
    nn.Embedding,
    nn.Parameter,
)


@dataclass(frozen=True, kw_only=True)
class Touched:
    """Channels of one module that go when some of a layer's filters go.

    Args:
        name: Module, or bare parameter.
        side: Whether its inputs or its outputs; both are one for norms and their kin (`out`).
        channels: Indices there.
        roots: For each of them the filter it belongs to.
    """

    name: str
    side: Side
    channels: tuple[int, ...]
    roots: tuple[int, ...]


class Followed(Protocol):
    """A network whose channels were followed."""

    def __init__(self, model: nn.Module, example_inputs: Tensor) -> None: ...

    def module(self, name: str) -> Any:
        """Module or bare parameter of a copy."""

    def touched(self, layer: str, filters: Sequence[int]) -> list[Touched]:
        """Everything that goes with `filters` of `layer`, the layer itself included.

        Raises:
            IncompatibleModel: It cannot lose them.
        """


class ChannelGraph:
    """Answers what else has to go with a layer's filters.

    Args:
        model: Left as it is; a sketch is traced.
        example_inputs: One batch, shape [N, K, H, W].

    Raises:
        IncompatibleModel: The network cannot be traced; the text names what stands in the way.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor) -> None:
        from compressors.pruning.engine import BoundedGraph, OwnCut  # torch-pruning: seconds

        self._model = traceable(model)
        self._names: dict[Any, str] = {m: name for name, m in self._model.named_modules()}
        self._names |= {p: name for name, p in self._model.named_parameters()}
        self._modules = {name: module for module, name in self._names.items()}
        own = {type(m): OwnCut() for m in self._model.modules() if hasattr(m, "keep_channels")}
        self._graph = BoundedGraph()
        try:
            with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
                warnings.filterwarnings("error", "Maximum recursive depth")  # shapes are guesses
                self._graph.build_dependency(
                    self._model,
                    example_inputs,
                    # unguarded, it first tries model(*example_inputs): one image without a batch
                    forward_fn=lambda network, images: network(images),
                    customized_pruners=own,
                    verbose=False,
                )
        except IncompatibleModel:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            where = _operation(error, self._names) or "its operations"
            raise IncompatibleModel(f"{where} cannot be followed ({what})") from error

    def module(self, name: str) -> Any:
        """Module or bare parameter of the sketch."""
        return self._modules[name]

    def touched(self, layer: str, filters: Sequence[int]) -> list[Touched]:
        """Everything that goes with `filters` of `layer`, the layer itself included.

        Raises:
            IncompatibleModel: The layer is not part of the traced graph, or a module on the way
                cannot lose channels.
        """
        if not filters:
            return []
        module = self._model.get_submodule(layer)
        if module not in self._graph.module2node:
            raise IncompatibleModel(f"{layer} does not take part in the forward pass")
        self._graph.look_ups = 0
        pruner = self._graph.get_pruner_of_module(module)
        try:
            group = self._graph.get_pruning_group(module, pruner.prune_out_channels, list(filters))
        except (IndexError, KeyError, ValueError) as error:  # channels counted wrongly on the way
            what = f"{type(error).__name__}: {error}"
            raise IncompatibleModel(f"{layer} cannot be followed ({what})") from error
        return [item for entry in group for item in self._items(entry)]

    def _items(self, entry: Any) -> Iterator[Touched]:
        module = entry.dep.target.module
        name = self._names.get(module)
        if name is None or _is_shared_slope(module):  # an addition, a reshape, a concatenation
            return
        if not isinstance(module, FOLLOWED) and not hasattr(module, "keep_channels"):
            raise IncompatibleModel(f"{name} is a {type(module).__name__}, which is not followed")
        pruner = self._graph.get_pruner_of_module(module)
        outward = entry.dep.handler == pruner.prune_out_channels
        side: Side = "out" if outward else "in"
        found = Touched(
            name=name, side=side, channels=tuple(entry.idxs), roots=tuple(entry.root_idxs)
        )
        count = getattr(module, "out_channels", getattr(module, "out_features", None))
        if outward and count is not None and max(found.channels) >= count:
            raise IncompatibleModel(f"{name} has {count} filters, and others were counted")
        yield found
        if isinstance(module, nn.modules.conv._ConvNd) and _one_sided(pruner):  # depthwise
            yield Touched(name=name, side="in", channels=found.channels, roots=found.roots)


def as_edits(touched: Sequence[Touched]) -> Edits:
    """Edits that take out what is touched."""
    removed: dict[str, dict[Side, list[int]]] = {}
    for item in touched:
        removed.setdefault(item.name, {}).setdefault(item.side, []).extend(item.channels)
    return Edits(removed=removed)


def _one_sided(pruner: Any) -> bool:
    return pruner.prune_in_channels == pruner.prune_out_channels


def _is_shared_slope(module: Any) -> bool:
    return isinstance(module, nn.PReLU) and module.num_parameters == 1


def _operation(error: Exception, names: dict[Any, str]) -> str:
    """Operation at which the tracer failed and the layer before it; it keeps them to itself."""
    from torch_pruning.dependency import Node

    failed = None
    step = error.__traceback__
    while step is not None:
        here = [v for v in step.tb_frame.f_locals.values() if isinstance(v, Node)]
        failed = next((node for node in here if node.grad_fn is not None), failed)
        step = step.tb_next
    if failed is None:
        return ""
    before = failed
    while before.module not in names and before.inputs:
        before = before.inputs[0]
    after = f" after {names[before.module]}" if before.module in names else ""
    return f"{failed.grad_fn.name()}{after}"
