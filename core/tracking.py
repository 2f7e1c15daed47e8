"""Where wandb is imported, so that a run that is not online leaves this machine in no way."""

import os
from types import ModuleType


def wandb_for(mode: str) -> ModuleType:
    """Import wandb for runs of a mode.

    wandb sends its own errors and counts to its makers, from offline runs too, unless it is told
    before its first run not to.

    Args:
        mode: `online` or `offline`.
    """
    if mode != "online":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb
