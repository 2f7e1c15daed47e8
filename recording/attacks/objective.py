"""How wrong a model is about an image, and which way it would be more so."""

from collections.abc import Callable

import torch
from torch import Tensor

from core.errors import NotApplicable

Classify = Callable[[Tensor], Tensor]
"""Images [B, K, H, W] in [0, 1] -> logits [B, C]."""

LEAST_SPREAD = 1e-12
"""Keeps a model that gives all classes the same logit from dividing by 0."""


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other one: below 0, the answer is wrong.

    Args:
        logits: Shape [B, C], C >= 2.
        labels: True classes, int64, shape [B].

    Returns:
        Shape [B]; minus infinity for a row with a non-finite logit, which counts as wrong.

    Example:
        >>> margins(torch.tensor([[3.0, 1.0, 2.0], [0.0, 4.0, 1.0]]), torch.tensor([0, 2])).tolist()
        [1.0, -3.0]
    """
    broken = ~logits.isfinite().all(dim=1)
    return _plain_margins(logits, labels).masked_fill(broken, -torch.inf)


def objective(logits: Tensor, labels: Tensor) -> Tensor:
    """What an attack raises: minus the margin, or with three classes and more, DLR.

    DLR, the difference of logits ratio, divides by the best minus the third logit. Neither
    saturates where the model is sure, as cross-entropy does, whose gradient then rounds to 0.

    Args:
        logits: Shape [B, C], C >= 2.
        labels: True classes, int64, shape [B].

    Returns:
        Shape [B].

    Example:
        >>> objective(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([0])).tolist()
        [-0.25]

    Reference:
        Croce, Hein: Reliable evaluation of adversarial robustness (2020), equation 6.
    """
    wrongness = -_plain_margins(logits, labels)
    if logits.shape[1] < 3:
        return wrongness
    best = logits.topk(3, dim=1).values
    return wrongness / (best[:, 0] - best[:, 2]).clamp(min=LEAST_SPREAD)


def uphill(classify: Classify, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the objective by the images, and the margins there.

    No other gradient is computed, so none is left on a parameter.

    Returns:
        Shape of `images`, 0 where it is not finite; and margins [B].

    Raises:
        NotApplicable: The model is not run by torch's operations.
    """
    images = images.detach().requires_grad_()
    logits = classify(images)
    if not logits.requires_grad:
        raise NotApplicable("the logits of this model cannot be differentiated by the images")
    wanted = objective(logits, labels).sum()
    (gradient,) = torch.autograd.grad(wanted, images, allow_unused=True)
    if gradient is None:  # the images were not looked at
        gradient = torch.zeros_like(images)
    finite = gradient.masked_fill(~gradient.isfinite(), 0.0)
    return finite, margins(logits.detach(), labels)


def _plain_margins(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own.squeeze(1) - others.amax(dim=1)
