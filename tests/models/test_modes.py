import pytest
import torch
from torch import nn

from models.modes import evaluating


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout()), nn.BatchNorm1d(2))
    model[1].eval()
    return model


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


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
