"""What every layer of a network costs: parameters, multiply-accumulates, shapes."""

import copy
import csv
import io
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from compressors.cost import open_attention
from compressors.tracing import prefix_of
from core.errors import IncompatibleModel


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One module, without what is inside its parts.

    Args:
        name: Short name; a model that is nothing but one layer has none.
        type: Class.
        weight_shape: Of the unpacked weight; empty where there is none.
        macs: Multiply-accumulates of one sample.
        params: Entries of its parameters; shared ones count where they come first.
        input_size: Of one sample, without the batch.
        output_size: Of one sample, without the batch.
    """

    name: str
    type: str
    weight_shape: list[int]
    macs: int
    params: int
    input_size: list[int]
    output_size: list[int]

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Every module that costs something, in the order of the model, and the totals."""

    layers: list[LayerCost]

    @property
    def params(self) -> int:
        """Parameters of all layers."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(layer.macs for layer in self.layers)

    def to_csv(self) -> str:
        """One line a layer; shapes as `16x3x3`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [one.name for one in fields(LayerCost)], lineterminator="\n")
        writer.writeheader()
        for layer in self.layers:
            cells = layer.as_dict().items()
            writer.writerow(
                {k: "x".join(map(str, v)) if isinstance(v, list) else v for k, v in cells}
            )
        return text.getvalue()


def count_flops_params(model: nn.Module, example_inputs: Tensor) -> ModelCost:
    """Count layer by layer in one forward pass of one sample.

    Integers packed by a quantization count as the weights that they stand for.

    Args:
        model: Any network; left as it is.
        example_inputs: One sample at least, shape [N, K, H, W].

    Raises:
        IncompatibleModel: Another runtime runs the model, which shows no layers.

    Example:
        >>> found = count_flops_params(nn.Conv2d(3, 4, 2, bias=False), torch.zeros(1, 3, 5, 5))
        >>> found.params, found.macs, found.layers[0].output_size
        (48, 768, [4, 4, 4])
    """
    runtime = getattr(model, "runtime", "torch")
    if runtime != "torch":
        raise IncompatibleModel(
            f"a model run by {runtime} shows no layers to count; count the model it was made of"
        )
    twin = copy.deepcopy(model).eval()
    seen = _watched(twin, example_inputs[:1])
    counted: set[int] = set()
    layers = []
    for name, module in twin.named_modules():
        visits = seen.get(module, _Visits())
        shape, params = _weight_shape(module), _params(module, counted)
        macs = visits.macs or _packed_macs(module, shape, visits.output_size)
        if params or macs:
            layers.append(
                LayerCost(
                    name=name.removeprefix(prefix_of(model)),
                    type=type(module).__name__,
                    weight_shape=shape,
                    macs=macs,
                    params=params,
                    input_size=visits.input_size,
                    output_size=visits.output_size,
                )
            )
    return ModelCost(layers=layers)


@dataclass
class _Visits:
    """What was seen of one module during the pass."""

    macs: int = 0
    input_size: list[int] = field(default_factory=list)
    output_size: list[int] = field(default_factory=list)


def _watched(model: nn.Module, inputs: Tensor) -> dict[nn.Module, _Visits]:
    """Products of each module without those of its parts, and its shapes at the last visit."""
    seen: dict[nn.Module, _Visits] = {}
    inside: list[int] = []  # of the modules that are entered: products of their parts
    starts: list[int] = []
    with torch.no_grad(), open_attention(), FlopCounterMode(display=False) as counter:

        def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            inside.append(0)
            starts.append(counter.get_total_flops())
            visits = seen.setdefault(module, _Visits())
            visits.input_size = _size(arguments[0]) if arguments else []

        def leave(module: nn.Module, _arguments: object, output: object) -> None:
            products = counter.get_total_flops() - starts.pop()
            seen[module].macs += (products - inside.pop()) // 2
            seen[module].output_size = _size(output)
            if inside:
                inside[-1] += products

        for module in model.modules():
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
        model(inputs)
    return seen


def _size(value: object) -> list[int]:
    if isinstance(value, tuple) and value:
        value = value[0]
    return list(value.shape[1:]) if isinstance(value, Tensor) else []


def _weight_shape(module: Any) -> list[int]:
    """Shape of a layer's weight, worked out where the weight is packed away."""
    own = dict(module.named_parameters(recurse=False))
    if "weight" not in own and hasattr(module, "out_channels") and hasattr(module, "kernel_size"):
        return [module.out_channels, module.in_channels // module.groups, *module.kernel_size]
    if "weight" not in own and hasattr(module, "in_features") and hasattr(module, "out_features"):
        return [module.out_features, module.in_features]
    first = own.get("weight", next(iter(own.values()), None))
    return [] if first is None else list(first.shape)


def _params(module: Any, counted: set[int]) -> int:
    """Entries of a module's own parameters, of packed ones too; what is `counted` is left out."""
    own = dict(module.named_parameters(recurse=False))
    new = {id(parameter): parameter.numel() for parameter in own.values()}
    count = sum(number for key, number in new.items() if key not in counted)
    counted.update(new)
    if not _is_packed(module):
        return count
    bias = getattr(module, "bias", None)
    bias = bias() if callable(bias) else bias
    hidden = 0 if bias is None or "bias" in own else bias.numel()
    return count + math.prod(_weight_shape(module)) + hidden


def _is_packed(module: Any) -> bool:
    """Whether a layer has a weight that is none of its parameters."""
    own = [name for name, _ in module.named_parameters(recurse=False)]
    computed = parametrize.is_parametrized(module) or any(n.startswith("weight") for n in own)
    return not computed and hasattr(module, "weight") and bool(_weight_shape(module))


def _packed_macs(module: Any, shape: list[int], output_size: list[int]) -> int:
    """Multiply-accumulates of a layer whose kernel shows none: each output sees a row."""
    if not _is_packed(module) or not output_size:
        return 0
    return math.prod(output_size) * math.prod(shape[1:])
