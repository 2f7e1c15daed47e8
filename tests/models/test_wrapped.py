import copy

import torch
from torch import nn

from core.preprocessing import Preprocessing
from models.wrapped import WrappedModel


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))


def test_a_network_computes_what_it_did() -> None:
    inner, images = network(), torch.rand(2, 1, 4, 4)
    model = WrappedModel(inner)
    assert torch.equal(model(images), inner(images))
    assert model.backbone is inner
    assert (model.num_classes, model.embedding_dim) == (3, 2)


def test_the_network_is_in_it_once() -> None:
    model = WrappedModel(network())
    assert all(name.startswith("backbone.") for name in model.state_dict())
    assert copy.deepcopy(model).fingerprint() == model.fingerprint()


def test_preprocessing_can_be_given() -> None:
    inner, images = network(), torch.rand(2, 1, 4, 4)
    model = WrappedModel(inner, preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)))
    torch.testing.assert_close(model(images), inner((images - 0.5) / 0.25))
