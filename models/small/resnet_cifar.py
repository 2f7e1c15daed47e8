"""The residual networks of He et al. (2016) for 32 x 32 images, section 4.2.

Layers are named as in the most widely used published weights, so that these load as they are.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule

WIDTHS = (16, 32, 64)

PUBLISHED = "https://github.com/akamaster/pytorch_resnet_cifar10"

CIFAR_PREPROCESSING = Preprocessing(
    size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""ImageNet's mean and scale: the published weights were trained with them."""


class CifarResNet(ClassifierModule):
    """Residual network with shortcuts without parameters (option A).

    Args:
        depth: Number of weighted layers, 6 n + 2: 20, 32, 44, 56, 110.
        num_classes: Width of the logits.
        pretrained: Nothing ships with it: True asks for a checkpoint.
        **options: Those of ClassifierModule.
    """

    def __init__(
        self,
        depth: int = 20,
        *,
        num_classes: int | None = 10,
        pretrained: bool | None = False,
        **options: Any,
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError([f"model.depth is 6 n + 2 (20, 32, 44, 56, 110), got {depth}"])
        self.depth = depth
        super().__init__(num_classes=num_classes, pretrained=pretrained, **options)

    def load_backbone(self) -> nn.Module:
        """Build the network with random weights."""
        if self.pretrained:
            raise ConfigError(
                [
                    f"the weights of a CIFAR ResNet-{self.depth} do not ship with it: pass "
                    f"model.checkpoint=PATH (published at {PUBLISHED}), or "
                    "model.pretrained=false for random weights"
                ]
            )
        return ResNet(blocks=(self.depth - 2) // 6, num_classes=self.requested_classes or 10)

    def default_preprocessing(self) -> Preprocessing:
        """Native size, ImageNet's mean and scale."""
        return CIFAR_PREPROCESSING


class ResNet(nn.Module):
    """Stem, three stages of `blocks` blocks, mean over the image, linear head."""

    def __init__(self, *, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [B, 3, 32, 32] -> logits [B, C]."""
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return cast(Tensor, self.linear(self.pool(x).flatten(1)))


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = Block(inputs, outputs)
    return nn.Sequential(first, *(Block(outputs, outputs) for _ in range(blocks - 1)))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; where the width grows, the image shrinks."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        grows = inputs != outputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if grows else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = OptionA(inputs, outputs) if grows else nn.Identity()
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, H, W] -> [B, K', H', W']."""
        y = self.act1(self.bn1(self.conv1(x)))
        return cast(Tensor, self.act2(self.bn2(self.conv2(y)) + self.shortcut(x)))


class OptionA(nn.Module):
    """Shortcut without parameters: every second pixel, new channels zero on both sides.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.

    Attributes:
        source: Input channel that each output channel copies, -1 = zeros; int64 [outputs], no
            part of the state dict, since published checkpoints have no such entry.

    Example:
        >>> OptionA(2, 4).source.tolist()
        [-1, 0, 1, -1]
    """

    source: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        before = (outputs - inputs) // 2
        source = torch.full((outputs,), -1)
        source[before : before + inputs] = torch.arange(inputs)
        self.inputs = inputs
        self.register_buffer("source", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, ceil(H / 2), ceil(W / 2)]."""
        with_zero = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 1))  # the last channel, index -1
        return with_zero[:, self.source]

    def keep_channels(self, inputs: Tensor | None, outputs: Tensor | None) -> None:
        """Keep some of the channels, in place; an output whose input is gone becomes zeros.

        Args:
            inputs: Kept input channels, int64, ascending; None = all.
            outputs: Kept output channels, likewise.

        Example:
            >>> shortcut = OptionA(2, 4)
            >>> shortcut.keep_channels(torch.tensor([1]), torch.tensor([1, 2, 3]))
            >>> shortcut.source.tolist()
            [-1, 0, -1]
        """
        source = self.source
        if outputs is not None:
            source = source[outputs.to(source.device)]
        if inputs is not None:
            new = torch.full((self.inputs + 1,), -1, device=source.device)  # the last stays -1
            new[inputs.to(source.device)] = torch.arange(len(inputs), device=source.device)
            source = new[source]
            self.inputs = len(inputs)
        self.source = source

    def extra_repr(self) -> str:
        """Widths, as other layers print them."""
        return f"{self.inputs}, {len(self.source)}"
