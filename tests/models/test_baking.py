import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from models.baking import baked


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    prune.l1_unstructured(model[0], "weight", amount=6)
    parametrizations.weight_norm(model[2])
    return model


def test_masks_and_parametrizations_become_weights_of_the_same_function() -> None:
    model, x = network(), torch.rand(5, 3)
    plain = baked(model)
    assert {name for name, _ in plain.named_parameters()} == {
        *("0.weight", "0.bias", "2.weight", "2.bias")
    }
    assert not [*plain.buffers()]
    assert int(plain.state_dict()["0.weight"].eq(0).sum()) == 6
    torch.testing.assert_close(plain(x), model(x))


def test_the_model_is_left_as_it_was() -> None:
    model = network()
    model(torch.rand(1, 3)).sum().backward()  # leaves a graph behind the masked weight
    before = copy.deepcopy(model.state_dict())
    baked(model)
    assert model.state_dict().keys() == before.keys()
    model(torch.rand(1, 3)).sum().backward()
    assert int(baked(model).state_dict()["0.weight"].eq(0).sum()) == 6


def test_a_plain_model_is_not_copied() -> None:
    model = nn.Linear(2, 2)
    assert baked(model) is model
