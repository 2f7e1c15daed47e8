from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.tracing import look_at
from models.edits import Edits, perform

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_the_last_layer_makes_the_logits_also_through_a_norm_and_a_pooling() -> None:
    body = [nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), nn.ReLU()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert look_at(model, IMAGES).heads == ["2"]


def test_every_summand_of_the_logits_is_a_head() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.other = nn.Linear(16, 5), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.body(x.flatten(1)).relu()
            return (self.one(y) + self.other(y)) / 2

    assert look_at(Two(), IMAGES).heads == ["one", "other"]


@pytest.mark.parametrize(
    ("spec", "head"),
    [
        ({"_target_": "models.quantized.IntegerLinear", "bits": 8}, "3"),
        ({"_target_": "models.simulated.Binary"}, "3.layer"),
        ({"_target_": "models.factorized.Factorized", "method": "svd", "ranks": [1]}, "3.last"),
    ],
    ids=["integers", "simulated", "factors"],
)
def test_a_head_that_was_replaced_is_still_the_head(spec: dict[str, Any], head: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3))
    perform(model, Edits(replaced={"3": spec}))
    assert look_at(model, IMAGES).heads == [head]


def test_a_frozen_model_in_training_mode_has_its_head_too_and_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3)).requires_grad_(False)
    with torch.inference_mode(False), torch.no_grad():
        assert look_at(model.train(), IMAGES).heads == ["2"]
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())


class Attends(nn.Module):
    """Places are multiplied with places, or channels with weights alone."""

    def __init__(self, *, attends: bool) -> None:
        super().__init__()
        self.body, self.head, self.attends = nn.Conv2d(1, 4, 1), nn.Linear(4, 3), attends

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body(x).flatten(2).transpose(1, 2)
        if self.attends:
            tokens = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(tokens.mean(1))


@pytest.mark.parametrize("attends", [False, True])
def test_one_look_tells_attention_cost_and_width(attends: bool) -> None:
    look = look_at(Attends(attends=attends), IMAGES)
    assert look.attends is attends
    assert look.logits == (1, 3)
    # one image: 16 places of 4 filters, 4 x 3 weights, and twice 16 x 16 products of 4 channels
    assert look.macs == 16 * 4 + 12 + attends * 2 * 16 * 16 * 4
