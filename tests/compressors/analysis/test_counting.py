import pytest
import torch
import torchvision
from torch import Tensor, nn

from compressors.analysis.counting import count_flops_params
from compressors.cost import cost_of
from compressors.selfcheck import State
from core.errors import IncompatibleModel
from models.small.digits import DigitsCNN


class Attending(nn.Module):
    """Products happen in an attention that is a part, and between parts."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.attention(x, x, x, need_weights=False)[0]) @ self.mix


def test_every_layer_is_counted_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
    ).eval()
    before = State.kept(model)
    found = count_flops_params(model, torch.rand(3, 2, 4, 4))
    convolution, norm, linear = found.layers
    assert convolution.as_dict() == {
        "name": "0",
        "type": "Conv2d",
        "weight_shape": [4, 1, 3, 3],
        "macs": 4 * 2 * 2 * 9,  # 4 x 2 x 2 outputs of one sample see 9 entries each
        "params": 4 * 9 + 4,
        "input_size": [2, 4, 4],
        "output_size": [4, 2, 2],
    }
    assert (norm.params, norm.macs) == (8, 0)
    assert (linear.params, linear.macs, linear.input_size) == (85, 80, [16])
    assert (found.params, found.macs) == (40 + 8 + 85, 144 + 80)
    assert State(model) == before


def test_products_between_parts_belong_to_the_whole() -> None:
    model = Attending().eval()
    found = {layer.name: layer for layer in count_flops_params(model, torch.rand(1, 3, 4)).layers}
    assert found[""].macs == 3 * 4 * 4
    assert found[""].params == 16
    # 3 tokens: in 3 x 4 x 12, out 3 x 4 x 4, scores and values 3 x 3 x 4 each
    assert found["attention"].macs == 144 + 48 + 36 + 36
    assert sum(one.params for one in found.values()) == cost_of(model, torch.rand(1, 3, 4)).params


def test_a_shared_layer_works_twice_and_is_stored_once() -> None:
    layer = nn.Linear(4, 4, bias=False)
    found = count_flops_params(nn.Sequential(layer, layer), torch.rand(1, 4))
    assert (found.params, found.macs, len(found.layers)) == (16, 32, 1)
    other = nn.Linear(4, 4, bias=False)
    other.weight = layer.weight
    found = count_flops_params(nn.Sequential(layer, other), torch.rand(1, 4))
    assert [one.params for one in found.layers] == [16, 0]
    assert found.macs == 32


class Packed(nn.Module):
    """A linear layer of integers; its kernel is one that a counter of products does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 6, 4
        self.integers = torch.ones(4, 6, dtype=torch.int8)

    def weight(self) -> Tensor:
        return self.integers.float()

    def bias(self) -> Tensor | None:
        return torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None, :] * self.weight()).sum(2)


class Biased(nn.Module):
    """One with a weight that is looked up, and a bias that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features = 6, 4
        self.bias = nn.Parameter(torch.ones(4))

    @property
    def weight(self) -> Tensor:
        return torch.ones(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


@pytest.mark.parametrize("kind", [Packed, Biased])
def test_packed_integers_count_as_the_weights_they_stand_for(kind: type[nn.Module]) -> None:
    found = count_flops_params(nn.Sequential(nn.Flatten(), kind()), torch.rand(1, 1, 2, 3))
    (one,) = found.layers
    assert (one.params, one.macs, one.weight_shape) == (24 + 4, 24, [4, 6])


def test_the_totals_are_those_of_every_report() -> None:
    model, images = DigitsCNN().eval(), torch.rand(2, 1, 8, 8)
    found, cost = count_flops_params(model, images), cost_of(model, images)
    assert (found.params, found.macs) == (cost.params, cost.macs) == (56_250, 678_368)
    assert [layer.name for layer in found.layers][:2] == ["conv", "bn"]


def test_a_model_of_another_runtime_shows_no_layers() -> None:
    model = DigitsCNN()
    model.runtime = "onnxruntime"
    with pytest.raises(IncompatibleModel, match="run by onnxruntime"):
        count_flops_params(model, torch.rand(1, 1, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "params", "giga_macs"),
    [
        ("resnet18", 11_689_512, 1.814),
        ("resnet50", 25_557_032, 4.089),
        ("vit_b_16", 86_567_656, 17.56),
    ],
)
def test_known_networks_have_the_known_counts(name: str, params: int, giga_macs: float) -> None:
    with torch.device("meta"):  # nothing is computed, so nothing is filled in
        model = getattr(torchvision.models, name)()
        images = torch.zeros(1, 3, 224, 224)
    found = count_flops_params(model, images)
    assert found.params == params
    assert found.macs / 1e9 == pytest.approx(giga_macs, abs=0.005)  # half a published digit
