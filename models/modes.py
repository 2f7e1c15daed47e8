"""A network in another mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for every part; afterwards each is in the mode it was in.

    Example:
        >>> model = nn.Sequential(nn.Dropout())
        >>> with evaluating(model):
        ...     model[0].training
        False
        >>> model[0].training
        True
    """
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def wanting_gradients(model: nn.Module) -> Iterator[None]:
    """Autograd is on and follows every floating parameter; afterwards the frozen are frozen again.

    Tracing follows autograd, and autograd skips what is frozen without a word.
    """
    frozen = [p for p in model.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
