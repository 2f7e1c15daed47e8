"""Run a pass: in this process, or with one process a device."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader

from core.errors import DataError
from datamodules.base import ImageDataset
from recording.loop import (
    Batch,
    Failures,
    Look,
    batches,
    device_of,
    evaluating,
    threads_set,
)
from store.layout import Layout
from store.records import RecordWriter
from store.shards import merge_shards
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


def run_on_ranks(job: Job, trainer_options: Mapping[str, Any], *, ranks: int) -> None:
    """Record the pass with one process a device; shards are merged by sample id.

    Lightning's sampler is not used: a rank holds strided ids and writes them into every row, so
    the merge can assert that each sample is there exactly once.
    """
    if ranks > len(job.ids):
        raise ValueError(
            f"{ranks} ranks for {len(job.ids)} samples: every rank needs at least one; "
            f"set trainer.devices to at most {len(job.ids)}"
        )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        **{**trainer_options, **quiet, "strategy": "ddp_spawn", "enable_progress_bar": False},
        use_distributed_sampler=False,
        # a job of SLURM is one process of ours; Lightning would wait for SLURM to start the others
        plugins=[LightningEnvironment()],
    )
    threads = job.threads or max(1, torch.get_num_threads() // ranks)
    models = [(model, device_of(model)) for model in job.look.models]
    for model, _ in models:
        model.cpu()  # processes are handed a copy; each moves its own to its device
    try:
        trainer.predict(RankModule(job, threads), return_predictions=False)
    finally:
        for model, device in models:
            model.to(device)


class RankModule(pl.LightningModule):
    """One rank's part of a pass; rank 0 merges the parts of all."""

    def __init__(self, job: Job, threads: int) -> None:
        super().__init__()
        self.job, self.threads = job, threads
        self.models = nn.ModuleList(job.look.models)  # Lightning moves them to the rank's device
        self.failures: Failures = {}
        self.opened: list[RecordWriter] = []  # none before the start

    def predict_dataloader(self) -> DataLoader[Batch]:
        """This rank's samples."""
        return self.job.loader(self.trainer.global_rank, self.trainer.world_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Leave the batch: the look moves what it needs."""
        return batch

    def on_predict_start(self) -> None:
        """Set the threads, which every rank inherits differently, and open the shard."""
        torch.set_num_threads(self.threads)
        self.opened = [RecordWriter(Layout(self.job.root), self.job.key, shard=True)]

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Look at a batch and write its rows."""
        self.failures.update(batch.failures)
        self.job.refuse_too_many(self.failures)
        self.job.write(self.opened[0], batch)

    def on_exception(self, exception: BaseException) -> None:
        """Leave nothing behind."""
        for writer in self.opened:
            writer.discard()

    def on_predict_end(self) -> None:
        """Finish the shard; rank 0 merges when all are finished."""
        shard, (writer,) = None, self.opened
        if writer.rows:  # none where every image of this rank is damaged
            shard = writer.commit(self.job.complete_manifest(self.failures, self.threads))
        parts: list[tuple[Path | None, Failures] | None] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, (shard, self.failures))
        if self.trainer.global_rank == 0:
            self._merge([part for part in parts if part is not None])
        torch.distributed.barrier()

    def _merge(self, parts: list[tuple[Path | None, Failures]]) -> None:
        failures = {sample: text for _, failed in parts for sample, text in failed.items()}
        self.job.refuse_too_many(failures)
        merge_shards(
            Layout(self.job.root),
            self.job.key,
            [path for path, _ in parts if path is not None],
            np.setdiff1d(self.job.ids, list(failures)),
            manifest=self.job.complete_manifest(failures, self.threads),
        )


def shown(loader: DataLoader[Batch], title: str) -> Iterator[Batch]:
    """The batches of a loader, with a progress bar where somebody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from loader
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield from progress.track(loader, total=len(loader), description=title)
