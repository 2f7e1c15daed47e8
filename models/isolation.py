"""What a training changes for the whole process, put back afterwards."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

ADVICE = (
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*Starting from v1.9.0, `tensorboardX` has been removed.*",
    ".*treespec, LeafSpec.*",
    ".*The `srun` command is available on your system but is not used.*",
    ".*You defined a `validation_step` but have no `val_dataloader`.*",
)
"""What Lightning warns of and is meant here."""


@contextmanager
def own_random_stream(seed: int) -> Iterator[None]:
    """Torch's random numbers start from `seed`; afterwards they go on as if nothing was drawn."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def torch_flags_kept() -> Iterator[None]:
    """What `Trainer(deterministic=True)` switches on for the whole process is switched back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def advice_silenced() -> Iterator[None]:
    """Lightning's hints on what is meant here are not shown; warnings of others are."""
    chatter = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in ADVICE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        chatter.setLevel(level)
