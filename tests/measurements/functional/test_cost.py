"""Counted cost, by hand on small layers and against published counts."""

import math

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from core.errors import NotApplicable
from measurements.functional.cost import (
    WeightBytes,
    mac_count,
    nonzero_count,
    parameter_count,
    weight_bits,
    weight_bytes,
)
from models.quantized import IntegerLinear


@pytest.fixture(scope="module", autouse=True)
def first_count() -> None:
    """The first count of a process imports what torch needs for it, a second of work."""
    mac_count(nn.Linear(1, 1), torch.zeros(1, 1))


class Tied(nn.Module):
    """Encoder and decoder that share one matrix of 3 x 3."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


class Packed(nn.Module):
    """Holds its weight, as int8 kernels do, in no parameter."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.visible = nn.Linear(2, 2)
        self.packed = weight

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Nothing to set."""

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:  # type: ignore[no-untyped-def]
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}_packed_params"] = (self.packed, None)


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=3, stride=2, padding=1, groups=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def test_parameters_worked_by_hand() -> None:
    # convolution 108 + 4, norm 4 + 4, linear 20 + 5; running statistics are buffers
    assert parameter_count(small_network()) == 145


def test_tied_parameters_count_once() -> None:
    assert parameter_count(Tied()) == 9


def test_frozen_and_zero_parameters_count() -> None:
    layer = nn.Linear(3, 2).requires_grad_(False)
    nn.init.zeros_(layer.weight)
    assert parameter_count(layer) == 8


def test_macs_worked_by_hand() -> None:
    # 4 x 4 output pixels x 3 x 9 x 4, and 4 x 5 of the linear layer
    assert mac_count(small_network(), torch.zeros(1, 3, 8, 8)) == 16 * 108 + 20


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), (1, 4, 5, 5), 9 * 9 * 4),
        (nn.Conv2d(4, 8, 1), (1, 4, 5, 5), 25 * 32),
        (nn.Linear(3, 7), (1, 2, 3), 2 * 21),
    ],
    ids=["depthwise", "pointwise", "tokens"],
)
def test_macs_of_a_layer(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert mac_count(layer, torch.zeros(shape)) == macs


def test_macs_are_those_of_one_image() -> None:
    model = small_network()
    one, many = torch.zeros(1, 3, 8, 8), torch.zeros(7, 3, 8, 8)
    assert mac_count(model, many) == mac_count(model, one)


def test_attention_counts_whether_or_not_its_fast_path_is_on() -> None:
    layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    # 5 tokens: projections 4 x 8 x 8, feed-forward 2 x 8 x 16; scores and mixing 2 x 5 x 5 x 8
    assert mac_count(layer, torch.zeros(1, 5, 8)) == 5 * (256 + 256) + 400
    assert torch.backends.mha.get_fastpath_enabled()


def test_counting_puts_modes_back_also_after_an_error() -> None:
    model, norm = small_network().train(), nn.BatchNorm2d(4).eval()
    model[1] = norm
    mac_count(model, torch.rand(2, 3, 8, 8))
    with pytest.raises(RuntimeError):
        mac_count(model, torch.zeros(1, 2, 8, 8))
    assert model.training
    assert model[0].training
    assert not norm.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_without_matrix_products_has_no_count() -> None:
    with pytest.raises(NotApplicable, match="no operation that torch can count"):
        mac_count(nn.ReLU(), torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("model", [nn.ReLU(), Packed(torch.ones(9))], ids=["none", "packed"])
def test_weights_that_torch_cannot_see_have_no_count(model: nn.Module) -> None:
    with pytest.raises(NotApplicable, match="float original"):
        parameter_count(model)


def test_packed_weights_have_no_mac_count_rather_than_a_small_one() -> None:
    with pytest.raises(NotApplicable, match="_packed_params is packed"):
        mac_count(Packed(torch.ones(9)), torch.zeros(1, 2))


def test_extra_state_alone_does_not_forbid_counting() -> None:
    class Versioned(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

    assert parameter_count(Versioned(3, 2)) == 8


def test_bytes_count_parameters_and_buffers() -> None:
    # 145 float32 parameters, 8 float32 statistics, one int64 count of batches
    assert weight_bytes(small_network()).tensors == 145 * 4 + 8 * 4 + 8


def test_the_file_has_the_size_safetensors_writes() -> None:
    model = small_network()
    expected = len(safetensors.torch.save(model.state_dict()))
    found = weight_bytes(model)
    assert found.safetensors == expected
    assert found.tensors < expected < found.tensors + 1000


def test_tied_bytes_count_once() -> None:
    assert weight_bytes(Tied()).tensors == 36


def test_views_of_one_storage_count_each() -> None:
    model, both = nn.Linear(2, 2), torch.zeros(3, 2)
    model.weight, model.bias = nn.Parameter(both[:2]), nn.Parameter(both[2])
    assert weight_bytes(model).tensors == 24


def test_a_part_of_another_tensor_is_written_again_and_counts_again() -> None:
    model = nn.Linear(2, 2)
    model.bias = nn.Parameter(model.weight.detach()[0])
    assert weight_bytes(model).tensors == 24
    assert weight_bytes(model).safetensors > 24


@pytest.mark.parametrize(
    ("dtype", "size"), [(torch.float32, 32), (torch.bfloat16, 16), (torch.float16, 16)]
)
def test_half_precision_halves_the_bytes(dtype: torch.dtype, size: int) -> None:
    assert weight_bytes(nn.Linear(3, 2).to(dtype)).tensors == size


def test_tensors_made_of_several_count_all_their_parts() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(TwoTensor(torch.zeros(2, 3), torch.ones(2, 3)))
    assert weight_bytes(layer).tensors == 48


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_packed_bytes_count_with_one_scale_and_zero_point() -> None:
    weight = torch.quantize_per_tensor(torch.ones(5, 2), 0.1, 3, torch.qint8)
    assert weight_bytes(Packed(weight)).tensors == 24 + 10 + 4 + 8


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_packed_bytes_count_with_a_scale_and_zero_point_per_channel() -> None:
    scales, zeros = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    weight = torch.quantize_per_channel(torch.ones(5, 2), scales, zeros, 0, torch.qint8)
    assert weight_bytes(Packed(weight)).tensors == 24 + 10 + 5 * 8 + 5 * 8


def test_a_model_without_state_has_no_bytes() -> None:
    with pytest.raises(NotApplicable, match="that of its own file"):
        weight_bytes(nn.ReLU())


def test_counting_leaves_the_model_as_it_was() -> None:
    model = small_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert isinstance(weight_bytes(model), WeightBytes)
    mac_count(model, torch.zeros(1, 3, 8, 8))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "flops"),
    [
        ("resnet18", 11_689_512, 3_628_146_688),
        ("resnet50", 25_557_032, 8_178_368_512),
        ("vit_b_16", 86_567_656, 35_127_656_448),
    ],
)
def test_published_models_have_their_published_counts(
    name: str, parameters: int, flops: int
) -> None:
    import torchvision

    model = torchvision.models.get_model(name, weights=None)
    assert parameter_count(model) == parameters
    assert mac_count(model, torch.zeros(1, 3, 224, 224)) == flops // 2


@pytest.mark.slow
def test_attention_of_timm_counts_like_that_of_torchvision() -> None:
    import timm

    model = timm.create_model("vit_base_patch16_224", pretrained=False)
    macs = mac_count(model, torch.zeros(1, 3, 224, 224))
    assert math.isclose(macs, 17.56e9, rel_tol=1e-3)


def test_nonzero_parameters_count_once_and_a_negative_zero_is_one() -> None:
    model = Tied()
    with torch.no_grad():
        model.encode.weight.copy_(torch.tensor([[0.0, 1, 2], [-0.0, 3, 0], [4, 5, 6]]))
    assert nonzero_count(model) == 6


def test_weights_that_torch_cannot_see_have_no_zeros_to_count() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(TwoTensor(torch.zeros(2, 3), torch.ones(2, 3)))
    for model in (Packed(torch.ones(9)), layer, nn.ReLU()):
        with pytest.raises(NotApplicable, match="float original"):
            nonzero_count(model)


def test_bits_are_those_of_parameters_and_packed_weights_once() -> None:
    assert weight_bits(small_network()) == {"float32": 145 * 32}  # no statistics of the norm
    assert weight_bits(Tied()) == {"float32": 9 * 32}
    with pytest.raises(NotApplicable, match="no torch weights"):
        weight_bits(nn.BatchNorm2d(4, affine=False))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_bits_of_packed_weights_have_their_own_type() -> None:
    weight = torch.quantize_per_tensor(torch.ones(5, 2), 0.1, 3, torch.qint8)
    # 10 values; scale and, as torch has it, a 64 bit zero point; four floats and two of a layer
    assert weight_bits(Packed(weight)) == {"float32": 7 * 32, "int64": 64, "int8": 80}


def test_bits_of_integer_weights_count_with_their_steps() -> None:
    layer = IntegerLinear.of(nn.Linear(6, 2), bits=4, group_size=3)
    # twelve weights in six bytes; four steps and two biases
    assert weight_bits(nn.Sequential(layer)) == {"float32": 6 * 32, "uint8": 48}
