"""Multiply-accumulates by the weights they use, counted by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from core.errors import NotApplicable
from measurements.functional.cost import mac_count
from measurements.functional.operations import (
    Operation,
    bit_operations,
    effective_macs,
    operations,
)


def half_empty(layer: nn.Module) -> nn.Module:
    """Zero the first half of the filters."""
    weight = layer.get_parameter("weight")
    with torch.no_grad():
        weight[: len(weight) // 2] = 0
    return layer


def test_layers_are_weighted_by_their_own_density() -> None:
    # 4 x 4 pixels x 3 x 9 x 4 at density 1/2; 4 x 5 at 1
    model = nn.Sequential(
        half_empty(nn.Conv2d(3, 4, 3, padding=1)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    found = operations(model, torch.rand(2, 3, 4, 4))
    assert found == [
        Operation(macs=1728, density=0.5, bits=1024),
        Operation(macs=20, density=1.0, bits=1024),
    ]
    assert effective_macs(found) == 884
    assert bit_operations(found) == 1748 * 1024


def test_zeros_among_activations_and_biases_do_not_count() -> None:
    layer = nn.Linear(4, 2)
    nn.init.zeros_(layer.bias)
    assert effective_macs(operations(layer, torch.zeros(1, 4))) == 8
    assert effective_macs(operations(nn.Linear(4, 2, bias=False), torch.zeros(1, 4))) == 8


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


@pytest.mark.parametrize("how", ["mask", "parametrization", "both"])
def test_a_weight_counts_as_it_is_used(how: str) -> None:
    layer: nn.Module = nn.Linear(4, 2)
    if how != "parametrization":
        prune.custom_from_mask(layer, "weight", torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]]))
    if how == "parametrization":
        half_empty(layer)
    if how != "mask":
        layer = nn.Sequential(
            layer, parametrize.register_parametrization(nn.Linear(2, 3), "weight", Doubled())
        )
    expected = {"mask": 4.0, "parametrization": 4.0 + 6, "both": 4.0 + 6}[how]
    assert effective_macs(operations(layer, torch.rand(1, 4))) == expected


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 1024), (torch.bfloat16, 256)])
def test_autocast_counts_the_bits_of_the_arithmetic(dtype: torch.dtype, bits: int) -> None:
    layer = half_empty(nn.Linear(4, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        (found,) = operations(layer, torch.rand(1, 4))
    assert (found.bits, found.density) == (bits, 0.5)


def test_attention_multiplies_activations_at_full_density() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight[8:16] = 0  # the keys'

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, need_weights=False)[0]

    model, x = Own(), torch.rand(1, 5, 8)
    # 5 tokens: three projections and one out of 8 x 8 each, the keys' empty; 2 x 5 x 5 x 8
    assert mac_count(model, x) == 4 * 5 * 64 + 400
    assert effective_macs(operations(model, x)) == 3 * 5 * 64 + 400


def test_what_cannot_be_counted_is_not_0() -> None:
    with pytest.raises(NotApplicable):
        operations(nn.ReLU(), torch.zeros(1, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_a_dense_published_model_has_all_its_macs_at_1024_bits(name: str) -> None:
    import torchvision

    model = torchvision.models.get_model(name, weights=None)
    for weight in model.parameters():
        nn.init.ones_(weight)  # a random weight is 0 now and then
    images = torch.rand(1, 3, 224, 224)
    found, macs = operations(model, images), mac_count(model, images)
    assert effective_macs(found) == macs
    assert bit_operations(found) == 1024 * macs
