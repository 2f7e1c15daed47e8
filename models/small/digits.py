"""A small residual network for the embedded handwritten digits; its weights ship beside it."""

from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from core.errors import DataError
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule
from models.checkpoints import read_state

WEIGHTS = Path(__file__).with_name("digits_cnn.safetensors")

WIDTHS = (16, 32, 48)

DIGITS_PREPROCESSING = Preprocessing(size=(8, 8), mean=(0.306,), std=(0.376,))
"""Mean and deviation of the pixels of the train split."""


class DigitsCNN(ClassifierModule):
    """Residual network for grey images of 8 x 8 pixels and ten classes.

    Args:
        num_classes: Width of the logits; other than 10 needs `pretrained=False`.
        **options: Those of ClassifierModule. Without a checkpoint, the shipped weights are used
            unless `pretrained` is False.
    """

    def __init__(self, *, num_classes: int | None = 10, **options: Any) -> None:
        super().__init__(num_classes=num_classes, **options)

    def load_backbone(self) -> nn.Module:
        """Build the network, with the shipped weights if they are wanted."""
        network = DigitsNet(num_classes=self.requested_classes or 10)
        if self.pretrained:
            if self.requested_classes not in (None, 10):
                raise DataError(
                    f"the shipped weights have 10 classes, got model.num_classes="
                    f"{self.requested_classes}; pass model.pretrained=false"
                )
            network.load_state_dict(read_state(WEIGHTS))
        return network

    def default_preprocessing(self) -> Preprocessing:
        """Native size, one channel."""
        return DIGITS_PREPROCESSING


class DigitsNet(nn.Module):
    """Stem, three residual blocks (8, 4 and 2 pixels wide), mean over the image, linear head."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.act = nn.ReLU()
        self.block1 = Block(WIDTHS[0], WIDTHS[0], stride=1)
        self.block2 = Block(WIDTHS[0], WIDTHS[1], stride=2)
        self.block3 = Block(WIDTHS[1], WIDTHS[2], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(WIDTHS[2], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [B, 1, 8, 8] -> logits [B, C]."""
        x = self.act(self.bn(self.conv(x)))
        x = self.block3(self.block2(self.block1(x)))
        return cast(Tensor, self.head(self.pool(x).flatten(1)))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, which is a 1 x 1 convolution where shapes change."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, H, W] -> [B, K', H / stride, W / stride]."""
        y = self.act1(self.bn1(self.conv1(x)))
        return cast(Tensor, self.act2(self.bn2(self.conv2(y)) + self.shortcut(x)))
