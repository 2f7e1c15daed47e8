"""What an attack is: a name, a version, parameters, and how it changes images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from recording.attacks.objective import Classify


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """Changed images, and what else is known about each sample.

    Args:
        images: In [0, 1], shape [B, K, H, W].
        columns: Name -> tensor [B], stored beside the columns of the records.
    """

    images: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """The worst image near an image, as far as a search for it comes.

    Randomness belongs to the sample: an image does not depend on the others of its batch, but for
    the last bits of the model's answers.

    Args:
        name: As it stands in result keys, `pgd_8`.
        eps: Largest change, for images in [0, 1].
    """

    kind: ClassVar[str]
    norm: ClassVar[str]
    units: ClassVar[int] = 255
    """The number in a name is eps times this."""
    options: ClassVar[Mapping[str, str]] = {}
    """Letter in a name -> argument that the number behind it is given to."""
    version: ClassVar[int] = 1

    name: str
    eps: float

    @abstractmethod
    def changed(self, classify: Classify, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        """Changed images; gradients may be taken, and all tensors are on one device."""

    def parameters(self) -> dict[str, Any]:
        """Every constant that can change a pixel. JSON."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "name"}
        return {"family": "attack", "norm": self.norm, **own}

    def describe(self) -> dict[str, Any]:
        """What identifies the attack in the key of a record, beside the attacked model. JSON."""
        return {"name": self.name, "version": self.version, "parameters": self.parameters()}

    def __call__(self, classify: Classify, images: Tensor, labels: Tensor, ids: Tensor) -> Attacked:
        """Attack a batch.

        Args:
            classify: The attacked model, in eval mode. It is left as it is.
            images: Float in [0, 1], shape [B, K, H, W].
            labels: True classes, int64, shape [B].
            ids: Sample ids, int64, shape [B].
        """
        # tensors of an inference mode around this have to be copied before gradients are taken
        with torch.inference_mode(False), torch.enable_grad(), _repeatable():
            return self.changed(classify, images.clone(), labels.clone(), ids.clone())


@contextmanager
def _repeatable() -> Iterator[None]:
    """Keep a GPU from choosing ways to differentiate that add up in another order every time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
