"""How far an attack may go: balls around an image."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.views.seeding import Draws


class Ball(ABC):
    """All images within a distance `eps`; every image and change has the shape [B, K, H, W]."""

    norm: ClassVar[str]

    @abstractmethod
    def start(self, shape: torch.Size, draws: Draws, purpose: str) -> Tensor:
        """Changes, uniform in the ball of radius 1, float32."""

    @abstractmethod
    def direction(self, gradient: Tensor) -> Tensor:
        """The change of length 1 that goes uphill fastest; 0 where the gradient is 0."""

    @abstractmethod
    def shortened(self, change: Tensor, eps: float) -> Tensor:
        """The nearest change within the ball."""

    def project(self, seen: Tensor, images: Tensor, eps: float) -> Tensor:
        """Bring `seen` into the ball around `images`, and into [0, 1].

        Images are in [0, 1], so that the second only shortens what the first has left.
        """
        return (images + self.shortened(seen - images, eps)).clamp(0, 1)


class Linf(Ball):
    """No value of a pixel changes by more than `eps`."""

    norm = "linf"

    def start(self, shape: torch.Size, draws: Draws, purpose: str) -> Tensor:
        """Each value on its own."""
        return draws.uniform(tuple(shape[1:]), purpose) * 2 - 1

    def direction(self, gradient: Tensor) -> Tensor:
        """Signs."""
        return gradient.sign()

    def shortened(self, change: Tensor, eps: float) -> Tensor:
        """Each value on its own."""
        return change.clamp(-eps, eps)


class L2(Ball):
    """The root of the summed squares of all changes of an image is at most `eps`."""

    norm = "l2"

    def start(self, shape: torch.Size, draws: Draws, purpose: str) -> Tensor:
        """A direction, and a length of which the volume below it is uniform."""
        size = shape[1:].numel()
        length = draws.uniform((1, 1, 1), f"{purpose} length") ** (1 / size)
        return length * self.direction(draws.normal(tuple(shape[1:]), purpose))

    def direction(self, gradient: Tensor) -> Tensor:
        """Of length 1. Scaled by the largest value first: tiny squares would round to 0."""
        scaled = gradient / _positive(gradient.abs().amax(dim=(1, 2, 3), keepdim=True))
        return scaled / _positive(_lengths(scaled))

    def shortened(self, change: Tensor, eps: float) -> Tensor:
        """In the same direction."""
        return change * (eps / _positive(_lengths(change))).clamp(max=1)


def _lengths(change: Tensor) -> Tensor:
    return change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _positive(number: Tensor) -> Tensor:
    return number.masked_fill(number == 0, 1.0)
