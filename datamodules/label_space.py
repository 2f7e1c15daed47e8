"""How the logits of a model with more classes answer a question about fewer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

IMAGENET_CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The classes of a dataset, as classes of the wider model that is asked.

    Args:
        name: For humans and record keys, `imagenet_r`.
        model_classes: Width of the logits the model gives.
        members: For each class of the dataset, the model's classes that count as it. A class of
            the model belongs to one class of the dataset at most; those in none are left out.

    Example:
        >>> space = LabelSpace(name="pets", model_classes=4, members=((3,), (0, 2)))
        >>> space.restrict(torch.tensor([[0.5, 9.0, 0.7, 0.6]]))
        tensor([[0.6000, 0.7000]])
    """

    name: str
    members: tuple[tuple[int, ...], ...]
    model_classes: int = IMAGENET_CLASSES

    def __post_init__(self) -> None:
        used = [index for group in self.members for index in group]
        if not self.members or not all(self.members):
            raise ValueError(f"every class of {self.name!r} needs at least one class of the model")
        if len(set(used)) != len(used):
            twice = sorted({index for index in used if used.count(index) > 1})
            raise ValueError(f"classes {twice} of the model stand in two classes of {self.name!r}")
        if min(used) < 0 or max(used) >= self.model_classes:
            raise ValueError(
                f"expected classes of the model in 0..{self.model_classes - 1} for {self.name!r}, "
                f"got {min(used)}..{max(used)}"
            )

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def _columns(self) -> Tensor:
        """Column of each member, shape [C, most members]; a short row repeats its first."""
        widest = max(map(len, self.members))
        rows = [group + group[:1] * (widest - len(group)) for group in self.members]
        return torch.tensor(rows, dtype=torch.int64)

    def restrict(self, logits: Tensor) -> Tensor:
        """Logits of the dataset's classes: the largest one among the members of each.

        Args:
            logits: Shape [B, model_classes].

        Returns:
            Shape [B, C]. Its argmax is the class that holds the model's best member.
        """
        if logits.ndim != 2 or logits.shape[1] != self.model_classes:
            raise ValueError(
                f"expected logits [B, {self.model_classes}] for label space {self.name!r}, "
                f"got {list(logits.shape)}"
            )
        return logits[:, self._columns.to(logits.device)].amax(dim=2)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, part of a record's key."""
        return {
            "name": self.name,
            "model_classes": self.model_classes,
            "members": [list(group) for group in self.members],
        }
