"""Layers that share weights go on sharing them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Compressor
from compressors.quantization.bnn import BNN
from compressors.quantization.dorefa import DoReFa
from compressors.quantization.naive import Naive
from compressors.quantization.qat import QAT
from compressors.quantization.weight_only import Int8WeightOnly
from compressors.resources import Resources
from core.errors import IncompatibleModel
from models.edits import perform

IMAGES = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
RECIPES: list[Compressor] = [
    Int8WeightOnly(),
    Naive(quant_bits=4),
    DoReFa(epochs=1),
    BNN(epochs=1),
    QAT(epochs=1, deploy=None),
]


def train(network: nn.Module, **_: Any) -> None:
    network.train()(IMAGES)
    network.eval()


RESOURCES = Resources(batches=lambda _: iter(()), score=lambda _: 1.0, train=train)


class Tied(nn.Module):
    """`one` and `other` have one weight, `same` and `again` are one layer, `own` is alone."""

    def __init__(self, *, own: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight
        self.same = self.again = nn.Linear(4, 4)
        self.own: nn.Module = nn.Linear(4, 4) if own else nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.one, self.other, self.same, self.again, self.own, self.head):
            x = layer(x.flatten(1))
        return x


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_shared_layer_is_left_and_told(recipe: Compressor) -> None:
    before = Tied(own=True)
    decision = recipe.plan(before, IMAGES, RESOURCES)
    after = decision.model
    if after is None:
        after = Tied(own=True)
        perform(after, decision.edits)
    shared = "one, other, same: left in floats, another place of the network has it"
    assert any(note.startswith(shared) for note in decision.notes)
    assert after.other.weight is after.one.weight
    assert after.again is after.same
    assert torch.equal(after.one.weight, before.one.weight)
    assert torch.equal(after.same.weight, before.same.weight)
    assert not torch.equal(after.own.weight, before.own.weight)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_network_of_shared_layers_is_refused(recipe: Compressor) -> None:
    shared = type(recipe)(**{**_options(recipe), "op_names": ["one", "other", "same"]})
    with pytest.raises(IncompatibleModel, match="one, other, same: left in floats, another place"):
        shared.plan(Tied(own=False), IMAGES, RESOURCES)


def _options(recipe: Compressor) -> dict[str, Any]:
    if "train" not in recipe.needs:
        return {}
    return {"epochs": 1, **({"deploy": None} if isinstance(recipe, QAT) else {})}
