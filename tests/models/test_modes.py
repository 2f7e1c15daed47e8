import pytest
import torch
from torch import nn

from models.modes import evaluating, wanting_gradients


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout()), nn.BatchNorm1d(2))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    return model


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def wanting(model: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in model.parameters()]


def test_parts_come_back_to_their_own_modes_also_after_an_error() -> None:
    model = network()
    before = modes(model)
    assert set(before) == {False, True}
    with evaluating(model):
        assert not any(modes(model))
    assert modes(model) == before
    with pytest.raises(RuntimeError), evaluating(model):
        model(torch.rand(3, 5))
    assert modes(model) == before


def test_frozen_parameters_are_frozen_again_also_after_an_error() -> None:
    model = network()
    before = wanting(model)
    with torch.inference_mode(), wanting_gradients(model):
        assert all(wanting(model))
        assert model(torch.rand(3, 2)).grad_fn is not None
    assert wanting(model) == before
    with pytest.raises(RuntimeError), wanting_gradients(model):
        model(torch.rand(3, 5))
    assert wanting(model) == before


def test_integers_want_no_gradients() -> None:
    model = nn.Module()
    model.levels = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    with wanting_gradients(model):
        assert not model.levels.requires_grad
