import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.errors import IncompatibleModel
from models.edits import enforce
from models.simulated import (
    Binary,
    DoReFa,
    FakeQuantized,
    HardTanh,
    Simulated,
    fake_quantized,
    in_floats,
    levels,
    signs,
)


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight = nn.Parameter(torch.tensor(rows))
    return layer


def gradient(function, numbers: list[float]) -> list[float]:  # type: ignore[no-untyped-def]
    given = torch.tensor(numbers, requires_grad=True)
    function(given).sum().backward()
    assert given.grad is not None
    return given.grad.tolist()


def test_the_gradient_is_one_inside_the_range_and_zero_outside() -> None:
    # integers from 0 to 3 with zero at 1: numbers from -0.5 to 1, each with half a step around it
    found = gradient(
        lambda x: fake_quantized(x, torch.tensor(0.5), 1, lowest=0, highest=3),
        [-0.8, -0.7, 0.3, 1.2, 1.3],
    )
    assert found == [0, 1, 1, 1, 0]
    assert gradient(signs, [-1.1, -0.9, 0.0, 0.9, 1.1]) == [0, 1, 1, 1, 0]
    assert gradient(lambda x: levels(x, 1), [0.2, 0.8]) == [1, 1]


@given(seed=st.integers(0, 1000), highest=st.sampled_from([1, 3, 64, 127]))
def test_nothing_inside_the_range_moves_by_more_than_half_a_step(seed: int, highest: int) -> None:
    numbers = torch.randn(20, generator=torch.Generator().manual_seed(seed))
    step = numbers.abs().max() / highest
    found = fake_quantized(numbers, step, 0, lowest=-highest, highest=highest)
    assert ((found - numbers).abs() <= 0.5001 * step).all()
    assert (found / step).round().unique().numel() <= 2 * highest + 1
    again = fake_quantized(found, step, 0, lowest=-highest, highest=highest)
    torch.testing.assert_close(again, found)


def test_the_sign_of_zero_is_one() -> None:
    assert signs(torch.tensor([0.0, -0.0, 1e-9, -1e-9])).tolist() == [1, 1, 1, -1]


@pytest.mark.parametrize(
    ("bits", "weight", "expected"),
    [
        # the mean magnitude is 1
        (1, [0.5, -1.5, 1.0], [1.0, -1.0, 1.0]),
        # tanh gives 0.8, 0.16, -0.4; halves of the largest 1, 0.6, 0.25; thirds 3, 2, 1 of three
        (2, [1.0986123, 0.1613867, -0.4236489], [1.0, 1 / 3, -1 / 3]),
    ],
)
def test_dorefa_weights_by_hand(bits: int, weight: list[float], expected: list[float]) -> None:
    layer = DoReFa.of(linear(weight), weight_bits=bits, input_bits=8)
    torch.testing.assert_close(layer.weight, torch.tensor([expected]))
    layer.weight.sum().backward()
    assert layer.layer.weight.grad.abs().min() > 0


def test_dorefa_clips_what_comes_in() -> None:
    layer = DoReFa.of(linear([1.0, 1.0, 1.0]), weight_bits=1, input_bits=2)
    # 0, 0.4 -> 1/3, and 1
    assert float(layer(torch.tensor([[-2.0, 0.4, 5.0]])).detach()) == pytest.approx(4 / 3)


def test_dorefa_weights_of_zero_are_no_fault() -> None:
    layer = DoReFa.of(linear([0.0, 0.0]), weight_bits=4, input_bits=4)
    assert layer.weight.isfinite().all()


def test_a_binary_layer_counts_signs() -> None:
    layer = Binary.of(linear([0.3, -0.2, 1e-9]))
    # signs of the weights + - +, of the inputs - - +
    assert layer(torch.tensor([[-5.0, -0.1, 0.0]])).tolist() == [[1.0]]


@pytest.mark.parametrize("bits", [None, 1, 2, 8])
def test_a_weight_that_was_zeroed_is_computed_as_zero(bits: int | None) -> None:
    weights = linear([0.3, 0.0, -0.2])
    layer = (
        Binary.of(weights) if bits is None else DoReFa.of(weights, weight_bits=bits, input_bits=8)
    )
    assert (layer.weight == 0).tolist() == [[False, True, False]]


def fake(layer: nn.Module, **changed: object) -> FakeQuantized:
    options = {"weight_levels": 127, "input_levels": 255, "start_step": 0, "decay": 0.9}
    return FakeQuantized.of(layer, **{**options, **changed})  # type: ignore[arg-type]


def test_a_range_is_the_moving_average_of_what_training_sees() -> None:
    layer = fake(linear([1.0])).train()
    layer(torch.tensor([[-1.0], [2.0]]))
    assert (float(layer.low), float(layer.high)) == (-1, 2)  # the first is the range
    layer(torch.tensor([[0.0], [12.0]]))
    assert float(layer.low) == pytest.approx(-0.9)
    assert float(layer.high) == pytest.approx(3)
    layer.eval()(torch.tensor([[100.0]]))
    assert float(layer.high) == pytest.approx(3)
    assert int(layer.steps) == 2


def test_what_comes_in_is_rounded_on_the_range_with_zero_in_it() -> None:
    layer = fake(linear([1.0]), input_levels=3, weight_levels=None)
    layer.low.fill_(-1)
    layer.high.fill_(2)  # steps of one: -1, 0, 1, 2
    inputs = torch.tensor([[-3.0], [-0.6], [0.4], [1.4], [7.0]])
    assert layer.eval()(inputs).flatten().tolist() == [-1, -1, 0, 1, 2]
    layer.low.fill_(0.5)  # zero is always among them: 0, 2/3, 4/3, 2
    assert layer(torch.tensor([[0.1]])).tolist() == [[0.0]]


def test_weights_have_a_step_for_each_channel() -> None:
    layer = fake(linear([3.0, 1.4], [0.3, 0.14]), weight_levels=3, input_levels=None).eval()
    torch.testing.assert_close(layer.weight, torch.tensor([[3.0, 1.0], [0.3, 0.1]]))


def test_a_norm_behind_a_layer_changes_no_integer() -> None:
    torch.manual_seed(0)
    layer = fake(nn.Conv2d(2, 3, 3), weight_levels=64).eval()
    factors = torch.tensor([2.0, -0.5, 1.7]).view(3, 1, 1, 1)
    folded = fake(nn.Conv2d(2, 3, 3), weight_levels=64).eval()
    with torch.no_grad():
        folded.layer.weight.copy_(layer.layer.weight * factors)
    torch.testing.assert_close(folded.weight, layer.weight * factors)


def test_rounding_waits_for_its_step() -> None:
    layer = fake(linear([1.0, 0.4]), weight_levels=1, start_step=2).train()
    ones = torch.ones(1, 2)
    exact = [float(layer(ones).detach()) for _ in range(3)]
    assert exact == pytest.approx([1.4, 1.4, 1.0])
    assert layer.eval().weight.tolist() == [[1.0, 0.0]]
    assert fake(linear([1.0, 0.4]), weight_levels=1, start_step=2).eval().weight[0, 1] == 0


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(2, 3, 3, padding="same"), nn.Conv2d(2, 3, 3, stride=2), nn.Linear(5, 3)],
    ids=["1d", "2d", "linear"],
)
def test_without_bits_a_layer_is_what_it_was(layer: nn.Module) -> None:
    shape = {nn.Conv1d: (2, 2, 5), nn.Conv2d: (2, 2, 5, 5), nn.Linear: (2, 5)}[type(layer)]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = fake(layer, weight_levels=None, input_levels=None)
    assert torch.equal(found(inputs), layer(inputs))
    assert found.bias is not None


def test_the_layers_inside_come_out_again() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    model[2] = Binary.of(model[2])
    plain = in_floats(model)
    assert [type(part) for part in plain] == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(model[2], Simulated)
    assert torch.equal(plain[2].weight, model[2].layer.weight)


def test_hardtanh_stands_for_a_relu_alone() -> None:
    inputs = torch.tensor([-3.0, -0.5, 0.5, 3.0])
    assert HardTanh.of(nn.ReLU6())(inputs).tolist() == [-1, -0.5, 0.5, 1]
    with pytest.raises(IncompatibleModel, match="a GELU is no ReLU"):
        HardTanh.of(nn.GELU())
    with pytest.raises(IncompatibleModel, match="a ConvTranspose2d is not simulated"):
        Binary.of(nn.ConvTranspose2d(1, 1, 1))


def test_training_keeps_weights_where_their_signs_have_a_gradient() -> None:
    model = nn.Sequential(Binary.of(linear([3.0, -2.0, 0.5])), linear([3.0]))
    enforce(model)  # as after a step of a fine-tuning
    assert model[0].layer.weight.tolist() == [[1.0, -1.0, 0.5]]
    assert model[1].weight.tolist() == [[3.0]]


def test_training_behind_integers_in_view_leaves_statistics_of_norms() -> None:
    model = nn.Sequential(fake(linear([1.0, 0.4])), nn.BatchNorm1d(1)).train()
    enforce(model)
    model(torch.ones(4, 2))
    assert (model[0].training, float(model[0].high)) == (True, 1.0)
    assert model[1].running_mean.tolist() == [0.0]
    only_norm = nn.Sequential(linear([1.0, 0.4]), nn.BatchNorm1d(1)).train()
    enforce(only_norm)
    assert only_norm[1].training
