"""A pass, and the plain loop that runs it in this process; several processes: recording.ranks."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader

from core.errors import DataError
from datamodules.base import ImageDataset
from recording.loop import (
    Batch,
    Failures,
    Look,
    batches,
    evaluating,
    threads_set,
)
from store.layout import Layout
from store.records import RecordWriter
from store.stored import Part

SHOWN_FAILURES = 10
"""Paths of undecodable images that an error message lists."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a process needs to record its part of a pass.

    Args:
        root: Folder of the store.
        key: Of the pass.
        manifest: What is remembered with the rows. JSON.
        look: How the model looks at a batch.
        dataset: Where the images come from.
        ids: Samples to look at, int64 [n], ascending.
        num_workers: Processes that read ahead.
        parts: What is stored beside the columns.
        threads: Of each process; None for what torch has set.
        max_decode_errors: Damaged images that may be skipped.
        title: Shown beside the progress bar.
    """

    root: Path
    key: str
    manifest: Mapping[str, Any]
    look: Look
    dataset: ImageDataset
    ids: np.ndarray
    num_workers: int
    parts: frozenset[Part]
    threads: int | None
    max_decode_errors: int
    title: str

    def loader(self, rank: int = 0, world_size: int = 1) -> DataLoader[Batch]:
        """Every `world_size`-th sample from `rank` on: together each sample once."""
        return batches(
            self.dataset,
            self.ids[rank::world_size],
            batch_size=self.look.batch_size,
            num_workers=self.num_workers,
        )

    def write(self, writer: RecordWriter, batch: Batch) -> None:
        """Look at a batch and append its rows."""
        if len(batch.ids):
            rows = self.look(batch, features="features" in self.parts)
            writer.append(
                rows.columns, rows.logits if "logits" in self.parts else None, rows.features
            )

    def refuse_too_many(self, failures: Failures) -> None:
        """Stop where more images are damaged than `max_decode_errors` allows."""
        refuse_too_many(failures, self.max_decode_errors, self.title)

    def complete_manifest(self, failures: Failures, threads: int) -> dict[str, Any]:
        """What is remembered, with the circumstances that can move the last bits of a row."""
        return {
            **self.manifest,
            "batch_size": self.look.batch_size,
            "threads": threads,
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "machine": platform.machine(),
            "decode_errors": {str(sample): text for sample, text in failures.items()},
        }


def refuse_too_many(failures: Failures, allowed: int, title: str) -> None:
    """Stop where more images are damaged than allowed.

    Raises:
        DataError: With the first few reasons.
    """
    if len(failures) <= allowed:
        return
    shown = list(failures.values())[:SHOWN_FAILURES]
    raise DataError(
        f"{len(failures)} images of {title} cannot be decoded, max_decode_errors allows "
        f"{allowed}: " + "; ".join(shown)
    )


def run_here(job: Job) -> None:
    """Record the pass with a plain loop in this process."""
    failures: Failures = {}
    with (
        RecordWriter(Layout(job.root), job.key) as writer,
        ExitStack() as modes,
        threads_set(job.threads) as threads,
    ):
        for model in job.look.models:
            modes.enter_context(evaluating(model))
        for batch in shown(job.loader(), job.title):
            failures.update(batch.failures)
            job.refuse_too_many(failures)
            job.write(writer, batch)
        writer.commit(job.complete_manifest(failures, threads))


def shown(loader: DataLoader[Batch], title: str) -> Iterator[Batch]:
    """The batches of a loader, with a progress bar where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from loader
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield from progress.track(loader, total=len(loader), description=title)
