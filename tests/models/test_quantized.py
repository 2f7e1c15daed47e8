import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.errors import IncompatibleModel
from models.quantized import (
    IntegerLinear,
    integer_tensors,
    pack_nibbles,
    round_to_nearest,
    unpack_nibbles,
    unpacked,
)
from models.replacements import made_of


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_all_sixteen_values_come_back_from_eight_bytes() -> None:
    values = torch.arange(-8, 8, dtype=torch.int8)
    packed = pack_nibbles(values)
    assert packed.dtype == torch.uint8
    # -8 is 1000 and -7 is 1001: the first lies in the lower half
    assert (packed[0], len(packed)) == (0b1001_1000, 8)
    assert torch.equal(unpack_nibbles(packed, 16), values)


@given(count=st.integers(0, 33), seed=st.integers(0, 1000))
def test_any_number_of_values_comes_back(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-8, 8, (count,), generator=generator, dtype=torch.int8)
    packed = pack_nibbles(values)
    assert len(packed) == (count + 1) // 2
    assert torch.equal(unpack_nibbles(packed, count), values)


def test_groups_of_a_row_have_steps_of_their_own() -> None:
    # steps: 15 / 7.5 = 2, 1.5 / 7.5 = 0.2, and 0.75 / 7.5 = 0.1 of the one that is left
    weight = torch.tensor([[15.0, -3.2, 1.5, 0.5, -0.75]])
    found = round_to_nearest(weight, bits=4, group_size=2)
    torch.testing.assert_close(found.scale, torch.tensor([[2.0, 0.2, 0.1]]))
    # 7.5 is too much for four bits, -7.5 is not
    assert found.integers.tolist() == [[7, -2, 7, 2, -8]]


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 9),
    group_size=st.one_of(st.none(), st.integers(1, 10)),
    bits=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 1000),
)
def test_nothing_moves_by_more_than_half_a_step(
    rows: int, columns: int, group_size: int | None, bits: int, seed: int
) -> None:
    weight = normal(rows, columns, seed=seed)
    found = round_to_nearest(weight, bits=bits, group_size=group_size)
    steps = found.scale.repeat_interleave(group_size or columns, dim=1)[:, :columns]
    assert ((found.integers * steps - weight).abs() <= 0.5001 * steps).all()  # of float32
    assert found.integers.unique().numel() <= 2**bits


def test_zeros_stay_zeros() -> None:
    found = round_to_nearest(torch.zeros(2, 3), bits=4, group_size=2)
    assert not found.integers.any()
    assert found.scale.isfinite().all()


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 4), (4, None)])
def test_a_layer_computes_with_its_integers(bits: int, group_size: int | None) -> None:
    layer = nn.Linear(7, 3)  # 21 entries: the last byte is half empty
    with torch.no_grad():
        layer.weight.copy_(normal(3, 7))
    found = IntegerLinear.of(layer, bits=bits, group_size=group_size)
    features = normal(2, 5, 7)
    assert torch.equal(found(features), F.linear(features, found.weight, layer.bias))
    assert found.integers.numel() == {8: 21, 4: 11}[bits]
    assert found.integers.element_size() == 1
    assert (found.weight - layer.weight).abs().max() <= 0.5001 * found.scale.max()
    assert found.weight.unique().numel() > 3


def test_stored_tensors_fit_a_layer_made_of_other_weights() -> None:
    one, other = nn.Linear(5, 3), nn.Linear(5, 3)
    spec = {"_target_": "models.quantized.IntegerLinear", "bits": 4, "group_size": 2}
    found, again = made_of(one, spec), made_of(other, spec)
    again.load_state_dict(found.state_dict())
    assert torch.equal(again(normal(2, 5)), found(normal(2, 5)))
    assert again.state_dict().keys() == {"integers", "scale", "bias"}


def test_attention_that_reads_the_weight_of_its_projection_still_can() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    tokens = normal(2, 3, 8)
    with torch.no_grad():
        before = attention(tokens, tokens, tokens)[0]
        attention.out_proj = IntegerLinear.of(nn.Linear(8, 8), bits=8).eval()
        attention.out_proj.put(round_to_nearest(torch.eye(8), bits=8, group_size=None))
        after = attention(tokens, tokens, tokens)[0]
    assert after.shape == before.shape


def test_a_copy_in_floats_computes_the_same() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    assert unpacked(model) is model
    model[0] = IntegerLinear.of(model[0], bits=4)
    twin = unpacked(model)
    assert torch.equal(twin(normal(5, 4)), model(normal(5, 4)))
    assert [name for name, _ in twin.named_parameters()] == ["0.weight", "0.bias", "2.weight"]
    assert integer_tensors(model) == {"0.integers", "0.scale"}
    assert integer_tensors(twin) == set()
    assert unpacked(model[0]).weight.shape == (3, 4)


class Doubled(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


@pytest.mark.parametrize(
    ("layer", "bits", "text"),
    [
        (Doubled(2, 2), 8, "a Doubled computes more than a linear layer"),
        (nn.Conv1d(2, 2, 1), 8, "a Conv1d computes more"),
        (nn.Linear(2, 2), 5, r"integers of \(4, 8\) bits, got 5"),
    ],
    ids=["subclass", "convolution", "bits"],
)
def test_what_cannot_be_replaced_is_refused(layer: nn.Module, bits: int, text: str) -> None:
    with pytest.raises(IncompatibleModel, match=text):
        IntegerLinear.of(layer, bits=bits)
