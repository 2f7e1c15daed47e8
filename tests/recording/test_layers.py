"""Watching layers: what is seen, and that nothing stays behind."""

import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from recording.layers import layer_names, regrouped, watched
from recording.loop import Batch

IMAGES = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])


def hooks(model: nn.Module) -> int:
    return sum(
        len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in model.modules()
    )


def doubling() -> nn.Sequential:
    """x -> relu(2 x), the ReLU in place."""
    first = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(2 * torch.eye(2))
    return nn.Sequential(first, nn.ReLU(inplace=True))


def test_an_output_is_what_it_was_before_the_next_layer_wrote_into_it() -> None:
    model = doubling()
    with watched(model, ["0", "1"]) as outputs, torch.no_grad():
        model(IMAGES)
        assert outputs["0"].tolist() == [[-2, 4], [6, -8]]
        assert outputs["1"].tolist() == [[0, 4], [6, 0]]
    assert hooks(model) == 0


def test_nothing_of_an_earlier_forward_is_left() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.some, self.other = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.some(x) if x.sum() > 0 else self.other(x)

    model = Fickle()
    with watched(model, ["some", "other"]) as outputs:
        model(torch.ones(1))
        assert list(outputs) == ["some"]
        model(-torch.ones(1))
        assert list(outputs) == ["other"]


def test_what_is_kept_can_be_chosen_by_name() -> None:
    model = doubling()
    with watched(model, ["0", "1"], keep=lambda name, out: out.sum() + 100 * int(name)) as outputs:
        model(IMAGES)
        assert {name: value.item() for name, value in outputs.items()} == {"0": 0, "1": 110}


def test_hooks_are_removed_after_an_error() -> None:
    model = doubling()
    with pytest.raises(RuntimeError), watched(model, ["0", "1"]):
        model(torch.ones(1, 5))
    assert hooks(model) == 0


def test_an_unknown_layer_is_refused_and_leaves_no_hook() -> None:
    model = doubling()
    with pytest.raises(LookupError, match="unknown layer '2'"), watched(model, ["0", "2"]):
        pass
    assert hooks(model) == 0


def test_an_output_that_is_no_tensor_is_left_out() -> None:
    model = nn.Sequential(nn.LSTM(2, 2))
    with watched(model, ["0"]) as outputs:
        model(IMAGES)
        assert outputs == {}


def test_names_are_in_the_order_of_the_model() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU6(), nn.Linear(1, 1)), nn.ReLU())
    assert layer_names(model, (nn.ReLU, nn.Hardtanh)) == ["0.0", "1"]
    assert layer_names(model, (nn.Conv2d,)) == []


def test_a_runtime_has_no_layers() -> None:
    model = nn.ReLU()
    model.runtime = "onnxruntime"
    with pytest.raises(NotApplicable, match="run by onnxruntime shows no layers"):
        layer_names(model, (nn.ReLU,))


def test_images_are_regrouped_in_their_order() -> None:
    batches = [
        Batch(images=some, labels=torch.zeros(0), ids=torch.zeros(0))
        for some in torch.arange(11.0).split([3, 1, 7])
    ]
    groups = [group.tolist() for group in regrouped(batches, 4)]
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
