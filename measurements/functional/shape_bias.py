"""Whether a model goes by shape or by texture, on images of one thing in the skin of another."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns
from measurements.functional.intervals import Interval, wilson_interval

VALUES_AT_ONCE = 2**21
"""Logits of a block: 16 MB in float64."""


@dataclass(frozen=True, kw_only=True)
class ShapeBias:
    """Decisions on images whose shape and texture are of different classes."""

    shape: int  # decisions for the class of the shape
    texture: int  # decisions for the class of the texture
    neither: int  # decisions for another class, and broken rows
    dropped: int  # images whose shape and texture are of one class

    @property
    def bias(self) -> float:
        """Shape among the decisions for shape or texture, in [0, 1]; neither is better.

        Raises:
            NotApplicable: No decision is for either.
        """
        if self.shape + self.texture == 0:
            raise NotApplicable("no decision is for the shape's or the texture's class")
        return self.shape / (self.shape + self.texture)

    @property
    def interval(self) -> Interval:
        """95 % interval of the bias, given the number of decisions for either."""
        return wilson_interval(self.shape, self.shape + self.texture)


def shape_bias(decisions: Tensor, *, shape: Tensor, texture: Tensor) -> ShapeBias:
    """Count decisions for shapes and for textures.

    Args:
        decisions: Predicted classes, int64, shape [N]; -1 for a broken row.
        shape: Class of the shape in each image, int64, shape [N].
        texture: Class of its texture, int64, shape [N]; images where both agree do not count.

    Example:
        >>> found = shape_bias(
        ...     torch.tensor([0, 1, 5, 3]),
        ...     shape=torch.tensor([0, 0, 0, 3]),
        ...     texture=torch.tensor([1, 1, 1, 3]),
        ... )
        >>> found, found.bias
        (ShapeBias(shape=1, texture=1, neither=1, dropped=1), 0.5)

    Reference:
        Geirhos et al., ImageNet-trained CNNs are biased towards texture (2019), section 3.
    """
    require_columns(decisions=decisions, shape=shape, texture=texture)
    conflict = shape != texture
    by_shape = int((conflict & (decisions == shape)).sum())
    by_texture = int((conflict & (decisions == texture)).sum())
    images = int(conflict.sum())
    return ShapeBias(
        shape=by_shape,
        texture=by_texture,
        neither=images - by_shape - by_texture,
        dropped=len(decisions) - images,
    )


def coarse_decisions(logits: Tensor, members: Sequence[Sequence[int]]) -> Tensor:
    """The coarse class whose classes have the highest mean probability.

    The mean, not the sum, so that a class of many breeds has no advantage.

    Args:
        logits: Shape [N, C].
        members: For each coarse class the classes in [0, C) it is made of; none empty.

    Returns:
        int64 [N]; the first of equal ones; -1 for a row that is not finite.

    Example:
        >>> logits = torch.tensor([[0.5, 0.2, 0.3]]).log()  # means .5 and .25
        >>> coarse_decisions(logits, [[1, 2], [0]]).tolist()
        [1]

    Reference:
        Geirhos et al., Generalisation in humans and deep neural networks (2018), appendix: the
        mapping to 16 classes.
    """
    _require_members(logits, members)
    mapping = logits.new_zeros(logits.shape[1], len(members), dtype=torch.float64)
    for coarse, classes in enumerate(members):
        mapping[list(classes), coarse] = 1 / len(classes)
    step = max(1, VALUES_AT_ONCE // logits.shape[1])
    return torch.cat([_decide(rows, mapping) for rows in logits.split(step)])


def _decide(logits: Tensor, mapping: Tensor) -> Tensor:
    broken = ~logits.isfinite().all(dim=1)
    return (logits.double().softmax(dim=1) @ mapping).argmax(dim=1).masked_fill(broken, -1)


def _require_members(logits: Tensor, members: Sequence[Sequence[int]]) -> None:
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"expected logits [N, C] of at least one sample, got {list(logits.shape)}")
    classes = logits.shape[1]
    wrong = [list(part) for part in members if not part or not all(0 <= c < classes for c in part)]
    if wrong or not members:
        raise ValueError(f"expected coarse classes made of classes in [0, {classes}), got {wrong}")
