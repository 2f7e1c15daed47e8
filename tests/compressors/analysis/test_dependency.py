import pytest
import torch
from torch import Tensor, nn

from compressors.analysis.dependency import channel_dependency
from compressors.selfcheck import State
from core.errors import IncompatibleModel
from models.small.digits import DigitsCNN

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Tied(nn.Module):
    """`whole` is added to `left` beside `right`; `grouped` sees their sum in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 4, 1)
        self.whole = nn.Conv2d(1, 6, 1)
        self.grouped = nn.Conv2d(6, 4, 1, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], dim=1) + self.whole(x)
        return self.head(self.grouped(both).mean((2, 3)))


def test_layers_are_tied_through_a_concatenation_that_is_added_to_something() -> None:
    model = Tied().eval()
    before = State.kept(model)
    found = channel_dependency(model, IMAGES)
    first, second, head = found.sets
    assert first.layers == ("left", "right", "whole")
    assert first.filters == {"left": 2, "right": 4, "whole": 6}
    assert first.groups == {"grouped": 2}
    assert (second.layers, second.groups) == (("grouped",), {"grouped": 2})
    assert (first.fixed, head.fixed) == ("", "head makes the logits")
    assert State(model) == before


def test_the_sets_of_a_residual_network_as_a_file() -> None:
    found = channel_dependency(DigitsCNN().eval(), torch.rand(2, 1, 8, 8))
    assert found.to_csv() == (
        "Dependency Set,Layers\n"
        'Set 1,"conv,block1.conv2"\n'
        "Set 2,block1.conv1\n"
        "Set 3,block2.conv1\n"
        'Set 4,"block2.conv2,block2.shortcut.0"\n'
        "Set 5,block3.conv1\n"
        'Set 6,"block3.conv2,block3.shortcut.0"\n'
        "Set 7,head\n"
    )


def test_a_layer_that_cannot_be_followed_is_named() -> None:
    model = Tied().eval()
    model.idle = nn.Conv2d(1, 2, 1)
    assert channel_dependency(model, IMAGES).unknown == {
        "idle": "idle does not take part in the forward pass"
    }


def test_a_network_that_cannot_be_followed_is_told() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x.mean((2, 3)), self.head.weight)

    with pytest.raises(IncompatibleModel, match="head"):
        channel_dependency(Bare(), IMAGES)


def test_halves_that_are_shuffled_are_tied() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(1, 8, 1), nn.Conv2d(4, 6, 1)
            self.outer, self.last = nn.Conv2d(6, 4, 1), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            passing, other = self.stem(x).chunk(2, dim=1)
            x = torch.cat([passing, self.outer(self.inner(other))], dim=1)
            x = x.view(len(x), 2, -1, 4, 4).transpose(1, 2).flatten(1, 2)
            return self.last(x.mean((2, 3)))

    found = channel_dependency(Halves(), IMAGES)
    assert found.to_csv() == (
        'Dependency Set,Layers\nSet 1,"stem,outer"\nSet 2,inner\nSet 3,last\n'
    )
