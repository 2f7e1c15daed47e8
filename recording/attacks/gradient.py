"""Attacks that follow the gradient: one step, and many."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datamodules.views.seeding import GENERATOR, Draws
from recording.attacks.attack import Attack, Attacked
from recording.attacks.balls import L2, Ball, Linf
from recording.attacks.objective import Classify, margins, uphill
from recording.attacks.strongest import Strongest

LOSS = {"2 classes": "margin", "3 classes and more": "dlr"}

RELATIVE_STEP = 2.5
"""Length of all steps together, over eps."""


@dataclass(frozen=True, kw_only=True)
class Fgsm(Attack):
    """One step of `eps` by the signs of the gradient, whether it helps or not.

    Its records have the column `zero_gradient`: bool, no value of the gradient is other than 0.

    Reference:
        Goodfellow et al., Explaining and harnessing adversarial examples (2015), with the loss of
        Croce & Hein (2020).
    """

    kind = "fgsm"
    norm = Linf.norm

    def parameters(self) -> dict[str, Any]:
        """With the loss."""
        return {**super().parameters(), "loss": LOSS}

    def changed(self, classify: Classify, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        """The step."""
        gradient, _ = uphill(classify, images, labels)
        seen = (images + self.eps * gradient.sign()).clamp(0, 1)
        return Attacked(images=seen, columns={"zero_gradient": _is_zero(gradient)})


@dataclass(frozen=True, kw_only=True)
class Pgd(Attack):
    """Steps uphill from a random place, always back into the ball.

    Of all places, the unchanged image among them, that with the lowest margin is kept. Its records
    have the column `zero_gradient`: bool, the gradient was 0 at every step.

    Args:
        steps: Of each start; each is 2.5 eps / steps long.
        restarts: How often to start.

    Reference:
        Madry et al., Towards deep learning models resistant to adversarial attacks (2018), with
        the loss of Croce & Hein (2020).
    """

    kind = "pgd"
    norm = Linf.norm
    options: ClassVar[Mapping[str, str]] = {"k": "steps", "r": "restarts"}
    ball: ClassVar[Ball] = Linf()

    steps: int = 20
    restarts: int = 1

    def parameters(self) -> dict[str, Any]:
        """With the loss, the length of all steps and the generator."""
        more = {"loss": LOSS, "relative_step": RELATIVE_STEP, "generator": GENERATOR}
        return {**super().parameters(), **more}

    def changed(self, classify: Classify, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        """The strongest of all places."""
        with torch.no_grad():
            found = Strongest(images, margins(classify(images), labels))
        blind = torch.ones_like(labels, dtype=torch.bool)
        for restart in range(self.restarts):
            blind &= self._climb(classify, images, labels, ids, restart, found)
        return Attacked(images=found.images, columns={"zero_gradient": blind})

    def _climb(
        self,
        classify: Classify,
        images: Tensor,
        labels: Tensor,
        ids: Tensor,
        restart: int,
        found: Strongest,
    ) -> Tensor:
        """Offer every place of one climb; tells which samples never saw a gradient, bool [B]."""
        start = self.ball.start(images.shape, Draws.of(ids, self.kind), f"start {restart}")
        seen = self.ball.project(images + self.eps * start, images, self.eps)
        blind = torch.ones_like(labels, dtype=torch.bool)
        for _ in range(self.steps):
            gradient, there = uphill(classify, seen, labels)
            found.offer(seen, there)
            blind &= _is_zero(gradient)
            step = (RELATIVE_STEP * self.eps / self.steps) * self.ball.direction(gradient)
            seen = self.ball.project(seen + step, images, self.eps)
        with torch.no_grad():
            found.offer(seen, margins(classify(seen), labels))
        return blind


@dataclass(frozen=True, kw_only=True)
class PgdL2(Pgd):
    """The same in a ball of the Euclidean norm; the number in its name is 100 eps."""

    kind = "pgdl2"
    norm = L2.norm
    units = 100
    ball: ClassVar[Ball] = L2()


def _is_zero(gradient: Tensor) -> Tensor:
    return (gradient == 0).flatten(1).all(dim=1)
