"""Each multiply-accumulate of a forward pass with the weights and the precision it uses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from core.errors import NotApplicable
from measurements.functional.cost import mac_count, plain_evaluation

ADDS_FIRST = frozenset({torch.ops.aten.addmm, torch.ops.aten.baddbmm})
"""Matrix products whose first tensor is added and not multiplied."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A convolution or a matrix product."""

    macs: int
    density: float  # share of its weights that are not zero; 1 between two activations
    bits: int  # product of the bits an entry of its two factors has


def operations(model: nn.Module, example: Tensor) -> list[Operation]:
    """Convolutions and matrix products of one forward pass of one image, in their order.

    What is computed from parameters and buffers alone is a weight: a masked or rescaled one counts
    as it is used.

    Args:
        model: A torch model; it is left in the mode it had.
        example: A batch at the resolution in question, shape [B, K, H, W]; the first is used.

    Raises:
        NotApplicable: The model computes in operations that torch cannot count.
    """
    total = mac_count(model, example)
    torch.clear_autocast_cache()  # else weights cast before would not be known as weights
    watch = _Watch(model)
    with plain_evaluation(model), watch:
        model(example[:1])
    if sum(operation.macs for operation in watch.found) != total:
        raise NotApplicable("some operations of the model cannot be told apart")
    return watch.found


def effective_macs(operations: Sequence[Operation]) -> float:
    """Multiply-accumulates by weights that are not zero.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> with torch.no_grad():
        ...     _ = layer.weight[0].zero_()
        >>> effective_macs(operations(layer, torch.zeros(1, 4)))
        4.0

    Reference:
        Blalock et al., What is the state of neural network pruning? (2020), theoretical speedup.
    """
    return math.fsum(operation.macs * operation.density for operation in operations)


def bit_operations(operations: Sequence[Operation]) -> int:
    """Multiply-accumulates times the bits of both factors.

    Example:
        >>> bit_operations(operations(nn.Linear(4, 2), torch.zeros(1, 4)))  # 8 x 32 x 32
        8192

    Reference:
        Baskin et al., UNIQ: uniform noise injection for non-uniform quantization (2021).
    """
    return sum(operation.macs * operation.bits for operation in operations)


class _Watch(TorchDispatchMode):
    """Notes every counted operation, and which tensors are made of weights alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: list[Operation] = []
        self._weights: dict[int, Tensor] = {}  # kept alive: freed memory would be given away again
        for tensor in [*model.parameters(), *model.buffers()]:
            self._note(tensor)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, or the parts of one that torch counts by its parts."""
        kwargs = kwargs or {}
        counted = func._overloadpacket in flop_registry
        if not counted and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if counted:
            macs = flop_registry[func._overloadpacket](*args, **kwargs, out_val=out) // 2
            self.found.append(self._operation(macs, _factors(func, given)))
        if given and all(map(self._is_weight, given)):
            for made in tree_leaves(out):
                if isinstance(made, Tensor):
                    self._note(made)
        return out

    def _operation(self, macs: int, factors: Sequence[Tensor]) -> Operation:
        densities = [_density(factor) for factor in factors if self._is_weight(factor)]
        bits = math.prod(8 * factor.element_size() for factor in factors)
        return Operation(macs=macs, density=math.prod(densities), bits=bits)

    def _note(self, tensor: Tensor) -> None:
        if tensor.numel():
            self._weights[tensor.untyped_storage().data_ptr()] = tensor

    def _is_weight(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._weights


def _factors(func: Any, given: Sequence[Tensor]) -> Sequence[Tensor]:
    """The two tensors that are multiplied; of attention the queries and keys."""
    return given[1:3] if func._overloadpacket in ADDS_FIRST else given[:2]


def _density(weight: Tensor) -> float:
    return torch.count_nonzero(weight).item() / weight.numel()
