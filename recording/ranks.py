"""One pass by several processes: spawned here, or started by srun on one node or several.

Under srun the first process does the evaluation alone, so that what is compressed, measured and
committed is decided once. The others wait for passes and record their part of each.
"""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.seed import isolate_rng
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader

from core.errors import ConfigError
from models.base_model import ClassifierModule
from models.isolation import advice_silenced
from recording.loop import Batch, Failures, device_of, threads_set
from recording.passes import Job
from store.disk import remove
from store.layout import Layout
from store.records import RecordWriter
from store.shards import merge_shards

PATIENCE = timedelta(minutes=10)
"""How long ranks wait for each other before a pass. One that died is noticed at once."""

FOREVER = timedelta(days=365)
"""How long a rank waits for the next pass, meanwhile the first may train a network, and for the
slowest of them to end its part."""

INTERACTIVE = ("bash", "interactive")
"""Names of SLURM jobs in which somebody types, as Lightning knows them."""

_patient: list[Any] = []  # the group in which orders are given and parts handed in


@dataclass(frozen=True, kw_only=True)
class Work:
    """A pass as every rank gets to know it.

    Args:
        job: The pass.
        trainer: Options of Lightning's Trainer.
        threads: Of each rank.
    """

    job: Job
    trainer: Mapping[str, Any]
    threads: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """What has become of one rank's samples.

    Args:
        shard: Their rows; None where every image is damaged, or something went wrong.
        failures: Images that could not be decoded.
        error: What went wrong.
    """

    shard: Path | None = None
    failures: Failures = field(default_factory=dict)
    error: Exception | None = None


class Step(SLURMEnvironment):
    """The processes of one srun as Lightning's ranks."""

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)  # a sweep requeues its jobs itself

    def world_size(self) -> int:
        """Their number."""
        return srun_tasks() or 1


_steps: list[Step] = []  # what srun has started, while a block of `leading` lasts


def srun_tasks() -> int | None:
    """Number of processes that srun has started of this command; None where it was not srun."""
    started = os.environ.get("SLURM_STEP_NUM_TASKS")
    if started is None or os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    return int(started)


def alone(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Options of what one process does whatever the number of ranks: a training."""
    return {**trainer, "devices": 1, "num_nodes": 1, "strategy": "auto"}


@contextmanager
def leading() -> Iterator[bool]:
    """Whether this process is to do the evaluation: the only one, or the first that srun started.

    Where it is not, the block is entered once the leader has no more passes.
    """
    if (srun_tasks() or 1) == 1:
        yield True
        return
    there = _step()
    address = f"tcp://{there.main_address}:{there.main_port}"
    rank, ranks = there.global_rank(), there.world_size()
    with _joined(address, rank, ranks), _unseen_by_others(there):
        if rank == 0:
            try:
                yield True
            finally:
                _order(None)
            return
        while (work := _order(None)) is not None:
            _take_part(work, there)
        yield False


def _step() -> Step:
    """What srun has started.

    Raises:
        ConfigError: It was not told how many processes a node has.
    """
    try:
        return Step()
    except RuntimeError as error:
        raise ConfigError(
            [
                f"srun has started {srun_tasks()} processes without --ntasks-per-node, by which "
                "each learns its place: give srun that option, with the number of trainer.devices"
            ]
        ) from error


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
    tasks = srun_tasks()
    shared = torch.get_num_threads() // (ranks if tasks is None else 1)  # a task has its own
    threads = job.threads or max(1, shared)
    work = Work(job=job, trainer=trainer_options, threads=threads)
    with _on_the_cpu(job.look.models):  # other processes get a copy; each moves its own
        if tasks is None:
            error = _spawned(work, ranks)
        else:
            _order(work)
            error = _take_part(work, _steps[0])
    if error is not None:
        raise error


@contextmanager
def _on_the_cpu(models: Sequence[ClassifierModule]) -> Iterator[None]:
    devices = [device_of(model) for model in models]
    for model in models:
        model.cpu()
    try:
        yield
    finally:
        for model, device in zip(models, devices, strict=True):
            model.to(device)


@contextmanager
def _joined(address: str, rank: int, ranks: int) -> Iterator[None]:
    """A process group; it carries shards' names and orders, so gloo will do on GPUs too."""
    distributed.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=ranks, timeout=PATIENCE
    )
    _patient.append(distributed.new_group(timeout=FOREVER))
    try:
        yield
    finally:
        _patient.clear()
        distributed.destroy_process_group()  # left to the end of the process, it may abort there


@contextmanager
def _unseen_by_others(step: Step) -> Iterator[None]:
    """Any other Trainer of these processes is on its own: Lightning sees srun by this variable."""
    before = os.environ.pop("SLURM_NTASKS")
    _steps.append(step)  # another would say, without the variable, that srun is not used
    try:
        yield
    finally:
        _steps.clear()
        os.environ["SLURM_NTASKS"] = before


def _order(work: Work | None) -> Work | None:
    """Hand a pass from the first rank to all, or None: there are no more."""
    box = [work]
    distributed.broadcast_object_list(box, src=0, group=_patient[0])
    return box[0]


def _spawned(work: Work, ranks: int) -> Exception | None:
    with TemporaryDirectory() as folder:
        spawn(_spawned_rank, (work, ranks, Path(folder)), nprocs=ranks)
        error: Exception | None = pickle.loads((Path(folder) / "error").read_bytes())
        return error


def _spawned_rank(rank: int, work: Work, ranks: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # how Lightning knows that the others are there already
    with _joined(f"file://{folder}/ranks", rank, ranks):
        error = _take_part(work, LightningEnvironment())
    if rank == 0:
        (folder / "error").write_bytes(pickle.dumps(error))


def _take_part(work: Work, environment: ClusterEnvironment) -> Exception | None:
    """Record this rank's samples, and merge those of all on the first, which tells what failed."""
    part = _part(work, environment)
    parts: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, part, group=_patient[0])
    if distributed.get_rank() != 0:
        return None
    error = next((each.error for each in parts if each.error is not None), None)
    try:
        if error is None:
            _merge(work, parts)
    except Exception as failure:  # noqa: BLE001 - told to whoever asked for the pass
        error = _sendable(failure)
    finally:
        for shard in (each.shard for each in parts if each.shard is not None):
            remove(shard)  # a merge removes them too
    return error


def _part(work: Work, environment: ClusterEnvironment) -> Part:
    """A failure is told to the other ranks, which would wait for this one otherwise."""
    job = work.job
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    whole = {"limit_predict_batches": 1.0, "enable_progress_bar": False}
    try:
        with (
            RecordWriter(Layout(job.root), job.key, shard=True) as writer,
            isolate_rng(),  # Lightning seeds every rank anew
            threads_set(work.threads),
            advice_silenced(),
        ):
            trainer = pl.Trainer(
                **{**work.trainer, **quiet, **whole, "strategy": DDPStrategy()},
                use_distributed_sampler=False,
                plugins=[environment],
            )
            module = RankModule(job, writer)
            trainer.predict(module, return_predictions=False)
            failures = module.failures
            shard = None
            if writer.rows:  # none where every image of this rank is damaged
                shard = writer.commit(job.complete_manifest(failures, work.threads))
            return Part(shard=shard, failures=failures)
    except Exception as error:  # noqa: BLE001
        return Part(error=_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error itself if another process can read it, else what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - any kind of error may be unable to travel
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _merge(work: Work, parts: Sequence[Part]) -> None:
    job = work.job
    failures = {sample: text for part in parts for sample, text in part.failures.items()}
    job.refuse_too_many(failures)
    merge_shards(
        Layout(job.root),
        job.key,
        [part.shard for part in parts if part.shard is not None],
        np.setdiff1d(job.ids, list(failures)),
        manifest=job.complete_manifest(failures, work.threads),
    )


class RankModule(pl.LightningModule):
    """One rank's part of a pass."""

    def __init__(self, job: Job, writer: RecordWriter) -> None:
        super().__init__()
        self.job, self.writer = job, writer
        self.models = nn.ModuleList(job.look.models)  # Lightning moves them to the rank's device
        self.failures: Failures = {}

    def predict_dataloader(self) -> DataLoader[Batch]:
        """This rank's samples."""
        return self.job.loader(self.trainer.global_rank, self.trainer.world_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        """Leave the batch: the look moves what it needs."""
        return batch

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Look at a batch and write its rows."""
        self.failures.update(batch.failures)
        self.job.refuse_too_many(self.failures)
        self.job.write(self.writer, batch)
