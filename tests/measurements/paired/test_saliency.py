"""Saliency of linear models, whose gradients are their weights."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from core.errors import NotApplicable
from core.preprocessing import Preprocessing
from datamodules.dummy import Dummy
from measurements.functional.saliency import saliency_cosine, top_overlap
from measurements.paired.saliency import SaliencyAgreement
from models.base_model import ClassifierModule
from recording.loop import Batch


class Linear(ClassifierModule):
    """Two logits over the four pixels of an image."""

    def __init__(self, rows: list[list[float]]) -> None:
        self._rows = rows
        super().__init__(num_classes=2)

    def load_backbone(self) -> nn.Module:
        layer = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(self._rows))
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), layer)

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(2, 2), mean=(0.0,), std=(1.0,))


class Two:
    """Gives one image of each class."""

    def images(self, *_: Any, samples: int) -> Iterator[Batch]:
        for label in (0, 1):
            images = torch.ones(1, 1, 2, 2)
            yield Batch(images=images, labels=torch.tensor([label]), ids=torch.tensor([label]))

    def datamodule(self, *_: Any) -> Dummy:
        return Dummy(num_classes=2)


def measured(now: list[list[float]], before: list[list[float]], **options: Any) -> dict[str, Any]:
    model = Linear(now).train()
    model.baseline = Linear(before)
    measurement = SaliencyAgreement(["toy"], model, OmegaConf.create({}), **options)
    measurement.recorder = Two()  # type: ignore[assignment]
    found = {key.removeprefix("toy_test_"): value for key, value in measurement.measure().items()}
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    return found


def test_the_gradient_of_the_label_without_its_sign() -> None:
    found = measured(
        [[3.0, -4, 0, 0], [1.0, 0, 0, 0]], [[4.0, 3, 0, 0], [-7.0, 0, 0, 0]], share=0.25
    )
    assert found["saliency_cosine"] == pytest.approx((24 / 25 + 1) / 2)
    assert found["saliency_overlap"] == pytest.approx((0 + 1) / 2)
    assert found["saliency_left_out"] == 0
    assert found["saliency_cosine"].n == 2


def test_an_image_without_a_gradient_is_left_out() -> None:
    rows = [[1.0, 2, 3, 4], [0.0, 0, 0, 0]]
    found = measured(rows, rows)
    assert found["saliency_cosine"] == pytest.approx(1)
    assert found["saliency_overlap"] == 1
    assert found["saliency_left_out"] == 0.5
    with pytest.raises(NotApplicable, match="no image of toy"):
        measured([[0.0] * 4] * 2, rows)


def test_maps_are_alike_up_to_a_scale_and_ties_go_to_the_first() -> None:
    maps: Tensor = torch.rand(5, 9, generator=torch.Generator().manual_seed(0))
    assert saliency_cosine(maps, 7 * maps).allclose(torch.ones(5).double())
    flat = torch.ones(1, 4)
    assert top_overlap(flat, torch.tensor([[2.0, 1, 1, 0]]), share=0.5).item() == 1
    assert top_overlap(flat, torch.tensor([[0.0, 0, 1, 2]]), share=0.5).item() == 0
