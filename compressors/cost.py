"""What a model costs: counted, not measured, except for the ratio of two times."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from models.quantized import unpacked

PRODUCTS = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Operations that multiply two activations as matrices."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Sizes of one model; masks and parametrizations count as the weights they result in.

    Integers that are the weight of a layer count as its parameters, their steps as bytes alone.

    Args:
        params: Entries of all parameters; shared ones count once.
        nonzero_params: Those that are not zero.
        macs: Multiply-accumulates of one sample.
        weight_bytes: Dense bytes of parameters and of the buffers a state dict holds.
    """

    params: int
    nonzero_params: int
    macs: int
    weight_bytes: int

    def as_dict(self) -> dict[str, int]:
        """JSON form."""
        return asdict(self)


def cost_of(model: nn.Module, example_inputs: Tensor, *, macs: int | None = None) -> Cost:
    """Count one model; leaves it as it is.

    A model of another runtime shows torch nothing to count: its counts are those of the network it
    was made of, its bytes those of its files.

    Args:
        model: In eval mode.
        example_inputs: At least one sample, shape [N, K, H, W].
        macs: Of one sample, where they are known; None counts them.
    """
    from models.fingerprint import baked_tensors  # Lightning: seconds, not for a refusal

    counts = getattr(model, "counts", None)
    if counts is not None:
        files = getattr(model, "files", {}).values()
        return Cost(**counts, weight_bytes=sum(path.stat().st_size for path in files))
    parameters = {id(p): p.detach() for p in unpacked(model).parameters()}.values()
    stored = {name for name, _ in model.named_parameters()} | set(model.state_dict())
    tensors = [t for name, t in baked_tensors(model).items() if name in stored]
    return Cost(
        params=sum(p.numel() for p in parameters),
        nonzero_params=sum(int(p.count_nonzero()) for p in parameters),
        macs=count_macs(model, example_inputs[:1]) if macs is None else macs,
        weight_bytes=sum(t.numel() * t.element_size() for t in tensors),
    )


def count_macs(model: nn.Module, inputs: Tensor) -> int:
    """Multiply-accumulates of one forward pass over `inputs`.

    Example:
        >>> count_macs(nn.Linear(4, 3, bias=False), torch.zeros(1, 4))
        12
    """
    with torch.inference_mode(False), torch.no_grad(), watched() as seen:
        model(inputs)
    return seen.macs


class Operations(TorchDispatchMode):
    """What passes do, operation by operation.

    Attributes:
        flops: Floating point operations so far, by torch's own formulas.
        attends: Whether two activations were multiplied as matrices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.attends = 0, False

    @property
    def macs(self) -> int:
        """Multiply-accumulates so far."""
        return self.flops // 2

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        self.attends |= packet in PRODUCTS or "attention" in packet.__name__
        return result


@contextmanager
def watched() -> Iterator[Operations]:
    """See what passes do meanwhile; inference mode would hide the parts of some operations."""
    with open_attention(), Operations() as seen:
        yield seen


@contextmanager
def open_attention() -> Iterator[None]:
    """Attention without torch's fast path: the fused kernel hides its products."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def latency_ratio(
    before: nn.Module,
    after: nn.Module,
    inputs: Tensor,
    *,
    seconds: float = 0.1,
    warm: bool = False,
) -> float:
    """Processor time of `after` over that of `before`, below 1 where it became faster.

    A first impression from pairs in turns (A B, B A), not a measurement to report: that has
    warm-up, repetitions and an interval.

    Args:
        before: In eval mode.
        after: In eval mode.
        inputs: One batch.
        seconds: Stop after the pair that passes this much processor time.
        warm: Whether both have seen a batch of this shape before.
    """
    with torch.inference_mode():
        if not warm:
            before(inputs), after(inputs)
        times, pair = {id(before): 0.0, id(after): 0.0}, (before, after)
        while sum(times.values()) < seconds:
            for model in pair:
                start = time.process_time()
                model(inputs)
                if inputs.is_cuda:
                    torch.cuda.synchronize(inputs.device)
                times[id(model)] += time.process_time() - start
            pair = pair[::-1]
    return times[id(after)] / times[id(before)]
