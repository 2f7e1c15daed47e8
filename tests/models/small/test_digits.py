import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.errors import DataError
from core.preprocessing import Preprocessing
from datamodules.digits import Digits
from models.small import digits
from models.small.digits import WEIGHTS, DigitsCNN

ROOT = Path(__file__).resolve().parents[3]


def whole(split: str) -> tuple[Tensor, Tensor]:
    """Every image and label of a split."""
    dataset = Digits().dataset(split)  # type: ignore[arg-type]
    return dataset.__getitems__(list(range(len(dataset))))


def test_the_shipped_weights_recognise_the_digits() -> None:
    images, labels = whole("test")
    with torch.inference_mode():
        right = (DigitsCNN().eval()(images).argmax(1) == labels).sum().item()
    assert (right, len(labels)) == (356, 359)  # as config/models/digits_cnn.yaml says


def test_the_shipped_weights_are_small() -> None:
    assert WEIGHTS.stat().st_size < 500_000


def test_the_header_of_its_configuration_is_true() -> None:
    text = (ROOT / "config" / "models" / "digits_cnn.yaml").read_text()
    params = sum(p.numel() for p in DigitsCNN().parameters())
    assert f"{params:,} parameters" in text
    assert "356 of the 359 test images" in text


def test_its_scale_is_that_of_the_train_split() -> None:
    images, _ = whole("train")
    assert DigitsCNN().preprocessing == Preprocessing(
        size=(8, 8), mean=(round(images.mean().item(), 3),), std=(round(images.std().item(), 3),)
    )


def test_random_weights_know_nothing() -> None:
    torch.manual_seed(0)
    images, labels = whole("test")
    with torch.inference_mode():
        right = (DigitsCNN(pretrained=False).eval()(images).argmax(1) == labels).float().mean()
    assert right < 0.3


def test_other_classes_start_from_random_weights() -> None:
    assert DigitsCNN(num_classes=3, pretrained=False)(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(DataError, match=r"have 10 classes, got model.num_classes=3"):
        DigitsCNN(num_classes=3)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(digits, "WEIGHTS", tmp_path / "gone.safetensors")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        DigitsCNN()


def test_half_of_the_filters_are_needed() -> None:
    images, labels = whole("test")
    model = copy.deepcopy(DigitsCNN()).eval()
    for name in ("block1", "block2", "block3"):
        block = model.backbone.get_submodule(name)
        weakest = block.conv1.weight.abs().sum((1, 2, 3)).argsort()
        block.bn1.weight.data[weakest[: len(weakest) // 2]] = 0
        block.bn1.bias.data[weakest[: len(weakest) // 2]] = 0
    with torch.inference_mode():
        right = (model(images).argmax(1) == labels).float().mean()
    assert right < 0.9
