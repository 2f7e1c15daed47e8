"""How long a training will take, said before it starts."""

import copy
import logging
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.base import Task

log = logging.getLogger(__name__)

TIMED_SAMPLES = 64


def announce(name: str, task: Task, *, epochs: int) -> None:
    """Say how many epochs of training are to come, and about how long they will take.

    The time is that of a forward and a backward pass, times the samples, where their number is
    known; what reading the data takes comes on top.

    Args:
        name: Of the recipe.
        task: With the network as it is now, and data.
        epochs: Altogether.
    """
    seconds = _seconds_of_an_epoch(task)
    about = "" if seconds is None else f", about {in_words(seconds * epochs)} or a little more"
    log.info("%s: %d epochs of training to come%s", name, epochs, about)


def in_words(seconds: float) -> str:
    """A duration to the nearest unit that fits.

    Example:
        >>> in_words(0.2), in_words(89), in_words(90), in_words(5399), in_words(5400)
        ('1 s', '89 s', '2 min', '90 min', '2 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"


def _seconds_of_an_epoch(task: Task) -> float | None:
    """Time of the arithmetic alone; None where it cannot be told."""
    count = task.given.tuning_samples
    batch = next(iter(task.given.batches(TIMED_SAMPLES)), None)
    if count is None or batch is None or not any(p.requires_grad for p in task.model.parameters()):
        return None
    twin = copy.deepcopy(task.model)
    _step(twin, *batch)  # the first one is slower than those that follow
    started = time.perf_counter()
    _step(twin, *batch)
    return (time.perf_counter() - started) / len(batch[1]) * count()


def _step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    with torch.enable_grad():
        functional.cross_entropy(model(images), labels).backward()
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
