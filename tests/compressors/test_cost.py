import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from compressors.cost import cost_of, count_macs, latency_ratio


def test_a_convolution_is_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)).eval()
    model[0].weight.data[0] = 0
    cost = cost_of(model, torch.rand(4, 3, 10, 10))
    assert cost.params == 8 * 27 + 8 + 16
    assert cost.nonzero_params == cost.params - 27 - int((model[0].bias == 0).sum()) - 8  # BN shift
    assert cost.macs == 8 * 27 * 100  # of one image
    assert cost.weight_bytes == 4 * (cost.params + 16) + 8  # running statistics, batch counter


def test_shared_weights_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert cost_of(model, torch.rand(1, 4)).params == 16


def test_a_grouped_layer_costs_its_groups_part() -> None:
    assert count_macs(nn.Conv2d(8, 8, 1, groups=4), torch.rand(1, 8, 5, 5)) == 8 * 2 * 25


class Attending(nn.Module):
    """Attention in each of the ways in which a network may write it."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mixed = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mixed(self.own(x, x, x)[0])
        x = nn.functional.scaled_dot_product_attention(x, x, x)
        return (x @ x.transpose(1, 2)).softmax(-1) @ x


COUNTED = {
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "three_dimensions": (nn.Conv3d(1, 2, 3, padding=1), (1, 1, 4, 4, 4)),
    "linear": (nn.Linear(4, 3), (2, 5, 4)),
    "attention": (Attending(), (2, 5, 8)),
}


@pytest.mark.parametrize(("model", "shape"), COUNTED.values(), ids=COUNTED)
@pytest.mark.parametrize("inference", [False, True], ids=["plain", "inference_mode"])
def test_operations_are_counted_as_by_torch(
    model: nn.Module, shape: tuple[int, ...], inference: bool
) -> None:
    images = torch.rand(shape)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(images)
    torch.backends.mha.set_fastpath_enabled(fast_path)
    with torch.inference_mode(inference):
        macs = count_macs(model, images)
    assert macs == counter.get_total_flops() // 2 > 0
    assert torch.backends.mha.get_fastpath_enabled() == fast_path


def test_half_precision_halves_the_bytes() -> None:
    assert cost_of(nn.Linear(4, 3).bfloat16(), torch.rand(1, 4).bfloat16()).weight_bytes == 30


def test_a_larger_model_takes_longer() -> None:
    small, large = nn.Linear(64, 64), nn.Sequential(*(nn.Linear(64, 64) for _ in range(50)))
    images = torch.rand(8, 64)
    assert latency_ratio(small, large, images, seconds=0.02) > 3
    assert latency_ratio(large, small, images, seconds=0.02) < 1 / 3


PUBLISHED = {  # torchvision's own table of its models: parameters and GFLOPS, which are MACs
    "resnet18": (11_689_512, 1.814e9),
    "resnet50": (25_557_032, 4.089e9),
    "vit_b_16": (86_567_656, 17.56e9),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items(), ids=PUBLISHED)
def test_published_networks_have_their_published_cost(name: str, expected: tuple) -> None:
    model = torchvision.models.get_model(name, weights=None).eval()
    cost = cost_of(model, torch.rand(1, 3, 224, 224))
    assert cost.params == expected[0]
    assert cost.macs == pytest.approx(expected[1], rel=5e-4)  # four published digits
