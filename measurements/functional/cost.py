"""Counted cost: parameters, multiply-accumulates and bytes. Nothing here is timed.

Hand over the model as it will be deployed, but with its masks and parametrizations baked into the
weights: an active mask hides zeros and doubles the file.
"""

import gzip
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.flop_counter import FlopCounterMode

from core.errors import NotApplicable
from models.quantized import integer_tensors


@dataclass(frozen=True, kw_only=True)
class WeightBytes:
    """Size of a model's state: parameters and buffers, tied ones once."""

    tensors: int  # entries times bytes an entry
    safetensors: int  # the same as a file, with names and shapes; not compressed


ZIP_LEVEL = 6
"""Of gzip, its usual one."""


def parameter_count(model: nn.Module) -> int:
    """Number of parameter entries, tied ones once; zeros count, buffers do not.

    Args:
        model: A torch model.

    Returns:
        Count, at least 1; lower is cheaper.

    Raises:
        NotApplicable: The model keeps weights where torch does not see them as parameters, so that
            the count would be too small.

    Example:
        >>> parameter_count(nn.Linear(3, 2))
        8
    """
    _refuse_packed(model)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count == 0:
        raise NotApplicable("the model has no torch parameters; count those of its float original")
    return count


def nonzero_count(model: nn.Module) -> int:
    """Number of parameter entries that are not zero, tied ones once; -0.0 is zero.

    Args:
        model: A torch model.

    Returns:
        Count, at least 0; lower is cheaper, where something skips zeros.

    Raises:
        NotApplicable: The model keeps weights where torch does not see them, or quantized.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> with torch.no_grad():
        ...     _ = layer.weight.zero_(), layer.bias.fill_(1)
        >>> nonzero_count(layer)
        2
    """
    parameter_count(model)  # refuses what cannot be counted
    parameters = list(model.parameters())
    if any(map(is_traceable_wrapper_subclass, parameters)):
        raise NotApplicable("a quantized weight has no zeros of its own; count the float original")
    return sum(int(torch.count_nonzero(parameter)) for parameter in parameters)


def weight_bits(model: nn.Module) -> dict[str, int]:
    """Bits that the weights take, by the type they are stored in.

    Parameters and packed weights, tied ones once; buffers do not count. A tensor that is made of
    several (quantized values and their scales) counts with all its parts.

    Args:
        model: A torch model, of any precision.

    Returns:
        Name of the type -> bits, above 0; their sum is the model's; lower is cheaper.

    Raises:
        NotApplicable: The model has no torch weights.

    Example:
        >>> weight_bits(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).half()))
        {'float16': 48, 'float32': 256}
    """
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    buffers -= integer_tensors(model)
    found: dict[str, int] = {}
    for part in _state_parts(model, without=buffers).values():
        name = str(part.dtype).removeprefix("torch.")
        found[name] = found.get(name, 0) + 8 * part.numel() * part.element_size()
    return dict(sorted(found.items()))


def mac_count(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one forward pass of one image.

    Convolutions, matrix products and attention; additions, norms and activations are left out, as
    in most papers. One multiply-accumulate is two of the operations called FLOPs.

    Args:
        model: A torch model; it is left in the mode and with the gradients it had.
        example: A batch at the resolution in question, shape [B, K, H, W]; the first is used.

    Returns:
        Count, at least 1; lower is cheaper.

    Raises:
        NotApplicable: The model computes in operations that torch cannot count.

    Example:
        >>> convolution = nn.Conv2d(3, 8, kernel_size=3, padding=1)
        >>> mac_count(convolution, torch.zeros(1, 3, 4, 4))  # 3 x 3 x 3 x 8 a pixel
        3456

    Reference:
        torch.utils.flop_counter, halved. Attention's fast path is off: the counter does not know
        its fused kernel and would leave a third of a transformer out.
    """
    _refuse_packed(model)
    with plain_evaluation(model), FlopCounterMode(display=False) as counter:
        model(example[:1])
    macs = counter.get_total_flops() // 2
    if macs == 0:
        raise NotApplicable("no operation that torch can count; count those of the float original")
    return macs


def weight_bytes(model: nn.Module) -> WeightBytes:
    """Bytes of the state dict, in memory and as a safetensors file.

    Args:
        model: A torch model, of any precision; packed int8 weights and tensors made of several
            (quantized values and their scales) count with all their parts.

    Returns:
        Bytes; lower is cheaper.

    Raises:
        NotApplicable: The model has no torch state; its size is that of its file.

    Example:
        >>> weight_bytes(nn.Linear(3, 2)).tensors
        32
    """
    parts = _state_parts(model)
    return WeightBytes(
        tensors=sum(part.numel() * part.element_size() for part in parts.values()),
        safetensors=len(_file(parts)),
    )


def zipped_bytes(model: nn.Module) -> int:
    """Bytes of the state dict as a safetensors file after gzip, level 6.

    Zeros and few distinct values make it small, whatever the precision.

    Args:
        model: As for `weight_bytes`.

    Returns:
        Bytes; lower is cheaper.

    Raises:
        NotApplicable: The model has no torch state.

    Example:
        >>> dense, pruned = nn.Linear(100, 100), nn.Linear(100, 100)
        >>> _ = nn.init.zeros_(pruned.weight)
        >>> zipped_bytes(pruned) < zipped_bytes(dense) / 10
        True
    """
    return zipped(_file(_state_parts(model)))


def zipped(content: bytes) -> int:
    """Bytes of `content` after gzip, level 6.

    Example:
        >>> zipped(bytes(100_000)) < 200
        True
    """
    return len(gzip.compress(content, compresslevel=ZIP_LEVEL, mtime=0))


def _file(parts: Mapping[str, Tensor]) -> bytes:
    """A safetensors file; of clones, because tensors that share their memory are refused."""
    copies = {name: part.detach().cpu().contiguous().clone() for name, part in parts.items()}
    return safetensors.torch.save(copies)


def _state_parts(model: nn.Module, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Plain tensors of the state dict, each once."""
    parts: dict[tuple[object, ...], tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        if name in without:
            continue
        for index, part in enumerate(_plain_tensors(value)):
            memory = (part.device, part.data_ptr(), part.dtype, part.shape, part.stride())
            parts.setdefault(memory, (f"{name}.{index}" if index else name, part))
    if not parts:
        raise NotApplicable("the model has no torch weights; its size is that of its own file")
    return dict(parts.values())


def _plain_tensors(value: object) -> Iterable[Tensor]:
    """Tensors that hold the bytes of an entry of a state dict."""
    if isinstance(value, tuple | list):
        return [part for item in value for part in _plain_tensors(item)]
    if not isinstance(value, Tensor):
        return []
    if is_traceable_wrapper_subclass(value):
        names, _ = value.__tensor_flatten__()
        return [part for name in names for part in _plain_tensors(getattr(value, name))]
    if value.is_quantized:  # deprecated by torch, which its older int8 models still are made of
        return [value.int_repr(), *_quantizer(value)]
    return [value]


def _quantizer(weight: Tensor) -> list[Tensor]:
    """Scales and zero points of a quantized tensor."""
    if weight.qscheme() in {torch.per_tensor_affine, torch.per_tensor_symmetric}:
        return [torch.tensor(weight.q_scale()), torch.tensor(weight.q_zero_point())]
    return [weight.q_per_channel_scales(), weight.q_per_channel_zero_points()]


def _refuse_packed(model: nn.Module) -> None:
    """Packed weights are no parameters and their operations are unknown: counts would lie."""
    for name, value in model.state_dict().items():
        extra = name.endswith("_extra_state")
        if not extra and (not isinstance(value, Tensor) or value.is_quantized):
            raise NotApplicable(
                f"{name} is packed and not a parameter; count those of the float original"
            )


@contextmanager
def plain_evaluation(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients and fused attention layers; all are put back."""
    was_training = {module: module.training for module in model.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in was_training.items():
            module.training = training
