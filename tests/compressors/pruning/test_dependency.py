import pytest
import torch
import torchvision
from torch import Tensor, nn

from compressors.pruning import engine
from compressors.pruning.dependency import ChannelGraph, as_edits
from core.errors import IncompatibleModel
from models.small.resnet_cifar import CifarResNet

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))


def removed(model: nn.Module, layer: str, *filters: int) -> dict:
    model(IMAGES)  # fixes the width of the lazy head
    return as_edits(ChannelGraph(model, IMAGES).touched(layer, filters)).removed


def test_everything_that_goes_with_a_filter_is_named() -> None:
    model = network(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))
    assert removed(model, "0", 1, 3) == {
        "0": {"out": [1, 3]},
        "1": {"out": [1, 3]},
        "2": {"out": [1, 3]},
        "5": {"in": [1, 3]},
    }


def test_a_depthwise_layer_loses_inputs_and_outputs() -> None:
    model = network(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
    assert removed(model, "0", 2)["1"] == {"out": [2], "in": [2]}
    assert removed(model, "1", 2)["0"] == {"out": [2]}


def test_a_slope_shared_by_all_channels_is_left_out() -> None:
    assert set(removed(network(nn.Conv2d(1, 4, 1), nn.PReLU()), "0", 2)) == {"0", "4"}


def test_a_module_with_its_own_way_has_independent_sides() -> None:
    model = CifarResNet(8).eval()
    graph = ChannelGraph(model, torch.rand(1, 3, 32, 32))
    before = as_edits(graph.touched("backbone.conv1", [1])).removed
    behind = as_edits(graph.touched("backbone.layer2.0.conv2", [3])).removed
    assert before["backbone.layer2.0.shortcut"] == {"in": [1]}
    assert behind["backbone.layer2.0.shortcut"] == {"out": [3]}
    assert "backbone.layer2.0.conv2" not in before


def test_a_bare_parameter_goes_by_its_own_name() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.h = nn.Conv2d(1, 4, 1), nn.Linear(4, 2)
            self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.h((self.a(x) * self.scale).mean((2, 3)))

    assert removed(Scaled(), "a", 2)["scale"] == {"out": [2]}


def test_the_filter_that_a_channel_hangs_on_is_known() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(48, 2))
    graph = ChannelGraph(model, IMAGES)
    (behind,) = (item for item in graph.touched("0", [2, 0]) if item.name == "2")
    assert behind.side == "in"
    assert dict(zip(behind.channels, behind.roots, strict=True)) == {
        **dict.fromkeys(range(16), 0),
        **dict.fromkeys(range(32, 48), 2),
    }


def test_the_traced_model_is_left_alone() -> None:
    model = network(nn.Conv2d(1, 4, 1))
    model(IMAGES)
    model.train().requires_grad_(False)
    ChannelGraph(model, IMAGES).touched("0", [1])
    assert model.training
    assert model[0].out_channels == 4
    assert not any(p.requires_grad for p in model.parameters())


def test_a_layer_that_is_never_called_is_named() -> None:
    model = network(nn.Conv2d(1, 4, 1))
    model(IMAGES)
    model.spare = nn.Conv2d(1, 4, 1)
    model.forward = lambda x: nn.Sequential.forward(nn.Sequential(*list(model)[:-1]), x)
    with pytest.raises(IncompatibleModel, match="spare does not take part in the forward pass"):
        ChannelGraph(model, IMAGES).touched("spare", [0])


def test_a_network_that_cannot_run_is_refused_with_what_it_said() -> None:
    with pytest.raises(IncompatibleModel, match=r"cannot be followed \(RuntimeError: Given groups"):
        ChannelGraph(nn.Conv2d(3, 4, 1), IMAGES)


def test_an_endless_search_for_shapes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_LOOK_UPS", 1)
    with pytest.raises(IncompatibleModel, match="its dependency graph does not end"):
        ChannelGraph(nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(48, 2)), IMAGES)


def test_the_operation_that_stopped_the_tracer_is_named() -> None:
    model = torchvision.models.shufflenet_v2_x0_5(weights=None)
    with pytest.raises(IncompatibleModel, match=r"ViewBackward0 after stage\S+ cannot be followed"):
        ChannelGraph(model, torch.rand(1, 3, 64, 64))


@pytest.mark.slow
def test_shifted_windows_come_to_an_end() -> None:
    model = torchvision.models.swin_t(weights=None)
    with pytest.raises(IncompatibleModel, match=r"after features\S+ cannot be followed"):
        ChannelGraph(model, torch.rand(1, 3, 224, 224))
