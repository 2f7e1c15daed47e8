"""From names in a configuration to an optimizer and a learning-rate scheduler."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import lr_scheduler

from core.errors import ConfigError, unknown

HORIZONS = ("T_max", "total_steps")
"""Scheduler arguments that mean the length of the whole training, in steps."""

NOT_FROM_A_CONFIG = (
    "LambdaLR",
    "MultiplicativeLR",
    "SequentialLR",
    "ChainedScheduler",
    "LRScheduler",
)
"""Schedulers that need functions or other schedulers; a configuration cannot write them."""


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Every optimizer of `torch.optim`, by lower-case name."""
    return {
        name.lower(): found
        for name, found in vars(torch.optim).items()
        if isinstance(found, type)
        and issubclass(found, torch.optim.Optimizer)
        and found is not torch.optim.Optimizer
    }


def schedulers() -> dict[str, type[lr_scheduler.LRScheduler]]:
    """Every scheduler a configuration can write, by lower-case name, with and without `lr`."""
    found = {
        name.lower(): kind
        for name, kind in vars(lr_scheduler).items()
        if isinstance(kind, type)
        and issubclass(kind, lr_scheduler.LRScheduler)
        and not name.startswith("_")
        and name not in NOT_FROM_A_CONFIG
    }
    return {**{name.removesuffix("lr"): kind for name, kind in found.items()}, **found}


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a model's weights are moved; names are checked at once, in any case.

    Args:
        optimizer: Class of `torch.optim`, `adam`, `sgd`, `adamw`, ...
        learning_rate: Step size at the start (the peak, for `onecycle`).
        weight_decay: L2 penalty; 0 leaves the optimizer's own default.
        optimizer_options: Further arguments, such as `momentum`.
        scheduler: Class of `torch.optim.lr_scheduler`, with or without `lr`; empty for none.
        scheduler_options: Its arguments, and `interval`: `step` or `epoch`. What means the length
            of the training (`T_max`, `total_steps`) is filled in where it is left out, and the
            scheduler then moves every step.

    Example:
        >>> Optimization(optimizer="adamm")
        Traceback (most recent call last):
        ...
        core.errors.ConfigError: unknown optimizer 'adamm', did you mean 'adam'? Known: ...
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str = ""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        if self.optimizer.lower() not in optimizers():
            faults.append(unknown("optimizer", self.optimizer, optimizers()))
        if self.scheduler and self.scheduler.lower() not in schedulers():
            faults.append(unknown("scheduler", self.scheduler, schedulers()))
        if not self.learning_rate > 0:
            faults.append(f"learning_rate is above 0, got {self.learning_rate}")
        if faults:
            raise ConfigError(faults)

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Optimizer over `parameters`; an argument it does not know is a ConfigError."""
        options = {"lr": self.learning_rate, **self.optimizer_options}
        if self.weight_decay:
            options["weight_decay"] = self.weight_decay
        kind = optimizers()[self.optimizer.lower()]
        try:
            return kind(parameters, **options)
        except TypeError as error:
            raise ConfigError([f"optimizer {self.optimizer!r}: {error}"]) from error

    def build_scheduler(
        self, optimizer: torch.optim.Optimizer, *, steps: float
    ) -> dict[str, Any] | None:
        """Lightning's description of the scheduler, None where there is none.

        Args:
            optimizer: What it steers.
            steps: Optimizer steps of the whole training; may be infinite.
        """
        if not self.scheduler:
            return None
        kind = schedulers()[self.scheduler.lower()]
        options = dict(self.scheduler_options)
        interval: Literal["step", "epoch"] | None = options.pop("interval", None)
        known = inspect.signature(kind).parameters
        for name in HORIZONS:
            if name in known and name not in options:
                options[name] = self._whole(steps, name)
                interval = interval or "step"
        if "max_lr" in known:
            options.setdefault("max_lr", self.learning_rate)
        try:
            scheduler = kind(optimizer, **options)
        except TypeError as error:
            raise ConfigError([f"scheduler {self.scheduler!r}: {error}"]) from error
        return {
            "scheduler": scheduler,
            "interval": interval or "epoch",
            "monitor": "val_loss",  # read by ReduceLROnPlateau alone
        }

    def _whole(self, steps: float, name: str) -> int:
        if steps == float("inf"):
            raise ConfigError(
                [
                    f"scheduler {self.scheduler!r} needs the length of the training; pass "
                    f"trainer.max_epochs, or scheduler_options.{name} in steps"
                ]
            )
        return int(steps)
