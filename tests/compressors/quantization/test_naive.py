from typing import Any

import pytest
import torch
from torch import nn

from compressors.quantization.naive import Naive, rounded
from core.errors import ConfigError
from models.small.digits import DigitsCNN


def test_each_channel_has_its_own_scale() -> None:
    weight = torch.tensor([[7.0, 3.4, -0.6], [0.7, 0.33, -0.06]])
    # 4 bits: 7 levels a side, so steps of 1 and of 0.1
    expected = torch.tensor([[7.0, 3.0, -1.0], [0.7, 0.3, -0.1]])
    torch.testing.assert_close(rounded(weight, bits=4), expected)


def test_the_channels_of_a_transposed_convolution_are_its_second_dimension() -> None:
    weight = torch.tensor([[7.0, 0.7], [3.4, 0.33]])
    expected = torch.tensor([[7.0, 0.7], [3.0, 0.3]])
    torch.testing.assert_close(rounded(weight, bits=4, dim=1), expected)


def test_a_channel_of_zeros_stays() -> None:
    assert torch.equal(rounded(torch.zeros(2, 3), bits=8), torch.zeros(2, 3))


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_nothing_moves_by_more_than_half_a_step(bits: int) -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(bits))
    got = rounded(weight, bits=bits)
    step = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((got - weight).abs() <= step / 2 + 1e-6).all()
    assert len((got / step)[0].round().unique()) <= 2**bits - 1
    torch.testing.assert_close(rounded(got, bits=bits), got)


def plan(**options: Any) -> nn.Module:
    model = Naive(**options).plan(DigitsCNN(), torch.zeros(2, 1, 8, 8)).model
    assert model is not None
    return model


def test_layers_have_the_bits_of_their_entry() -> None:
    entries = [{"op_types": ["Conv2d"]}, {"op_names": ["head"], "quant_bits": {"weight": 2}}]
    after, before = plan(config_list=entries, quant_bits=4), DigitsCNN()
    expected = rounded(before.backbone.head.weight, bits=2)
    assert torch.equal(after.backbone.head.weight, expected)
    expected = rounded(before.backbone.conv.weight, bits=4)
    assert torch.equal(after.backbone.conv.weight, expected)
    assert torch.equal(after.backbone.head.bias, before.backbone.head.bias)


def test_the_report_says_that_it_is_a_simulation() -> None:
    decision = Naive(quant_bits=3).plan(DigitsCNN(), torch.zeros(2, 1, 8, 8))
    assert decision.achieved == {"simulated": True, "quantized_layers": 10}
    assert decision.notes[0].startswith("simulated: the weights of 10 layers are rounded to 3 bits")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quant_bits": 1}, "quant_bits is an int from 2 to 16, got 1"),
        ({"quant_bits": 17}, "from 2 to 16, got 17"),
        ({"quant_bits": True}, "got True"),
        ({"quant_bits": {"output": 8}}, "quant_bits is a number or {weight: number}"),
        ({"quant_types": ["weight", "output"]}, r"quant_types is \[weight\]"),
        ({"sparsity": 0.5}, "unknown key 'sparsity'"),
    ],
)
def test_faults_are_told(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Naive(**options)
