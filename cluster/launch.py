"""From the overrides of a sweep to jobs that ran, or wait in a queue."""

import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from hydra._internal.utils import get_args_parser
from hydra.core.utils import (
    JobReturn,
    JobStatus,
    configure_log,
    env_override,
    run_job,
    setup_globals,
)
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from cluster import manifest as manifests
from cluster import slurm, snapshot
from cluster.command import Command
from cluster.jobs import Job, is_certain, jobs_of, receipt_key, sweep_digest
from cluster.local import Processes, ended_by_signals, threads_each
from cluster.locks import claimed
from cluster.manifest import CANCELLED, COMMITTED, ENDED, FAILED, WAITING, Entry, Manifest
from cluster.progress import Progress
from cluster.sending import Sender
from cluster.states import Seen, finished, is_lost, look
from cluster.watch import answer, failures, job_table, note, overview, save, watch
from core.errors import ConfigError
from core.files import this_host
from core.origin import ROOT, code_digest, git_state
from store.layout import Layout
from store.receipts import ASKED_FOR, CODE_ASKED_FOR, is_committed

FLAGS = ("config_path", "config_name", "config_dir")
LIBRARIES = ("torch", "torchvision", "timm", "torch-pruning", "onnxruntime", "numpy")
"""Whose versions decide numbers."""
WITHOUT_RECORDS = ("train.py", "compress.py")
"""Entry files whose jobs share nothing that one of them had to make first."""
NOT_FOR_A_JOB = ("hydra.launcher", "hydra/launcher", "hydra.sweep", "hydra/sweep", "hydra.mode")


@dataclass(frozen=True)
class Sweep:
    """A command line that asks for several jobs, or for a cluster.

    Args:
        context: Of Hydra.
        task: The entry file's function.
        config: Composed without what is swept.
        options: Of `config/hydra/launcher`.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    options: dict[str, Any] = field(default_factory=dict)

    def launch(self, lines: Sequence[Sequence[str]]) -> list[JobReturn]:
        """Run or send what is not committed; returns one result a job that this process ran."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = jobs_of(
            lines,
            most=OmegaConf.select(self.config, "hydra.sweeper.max_batch_size"),
            baselines=self.entry not in WITHOUT_RECORDS,
        )
        if self.is_dry:
            return self._show(jobs)
        if self.options["kind"] == "slurm":
            slurm.require()
        digest = sweep_digest(jobs, self.surroundings)
        with self._alone(digest) as lock:
            manifest = self._manifest(jobs, digest)
            manifests.create(manifest)
            committed = sum(job.state == COMMITTED for job in manifest.jobs)
            if committed:
                rest = len(manifest.waiting)
                self._say(f"{committed} of {len(jobs)} jobs are committed already, {rest} to start")
            if self.code is None and self.options["resume"]:
                self._say(
                    f"{ROOT} is no git repository, so nobody can tell whether a job's code has "
                    "changed: every job starts again, and goes on from its committed cells"
                )
            if self.is_here:
                return self._run_all_here(manifest)
            manifest = self._take_code(manifest)
            if self.options["kind"] == "processes":
                self._run_processes(manifest)
                return []
            try:
                manifest = self._sender.send(manifest, lock)
            except KeyboardInterrupt:
                manifest = self._sender.unsent(manifest)
                seen = answer(manifest)
                if seen is not None:
                    self._conclude(manifest, seen)
                    return []
        self._follow(manifest)
        return []

    @contextmanager
    def _alone(self, digest: str) -> Iterator[int]:
        """Nobody else starts this sweep meanwhile: until it is sent, or here until it has ended.

        Raises:
            ConfigError: Somebody does.
        """
        lock = self.layout.lock_file(digest)
        with ExitStack() as stack:
            try:
                kept = stack.enter_context(
                    claimed(lock, "the same sweep", f"python -m cluster status {self.folder}")
                )
            except ConfigError:
                self._leave_nothing()
                raise
            yield kept

    @property
    def is_dry(self) -> bool:
        """Whether nothing is to happen."""
        return bool(self.config.get("dry_run", False))

    @property
    def is_here(self) -> bool:
        """Whether the jobs run in this very process, one after the other."""
        return self.options["kind"] == "processes" and self.options["n_jobs"] == 1

    @property
    def entry(self) -> str:
        """Name of the entry file."""
        return Path(sys.argv[0]).name

    @cached_property
    def folder(self) -> Path:
        """Of this start of the sweep."""
        return Path(str(self.config.hydra.sweep.dir)).absolute()

    @cached_property
    def layout(self) -> Layout:
        """The store."""
        return Layout(Path(str(self.config.results_dir)).absolute())

    @cached_property
    def code(self) -> str | None:
        """Digest of the code, None where git does not know it: then no receipt is believed."""
        return code_digest()

    @cached_property
    def surroundings(self) -> dict[str, Any]:
        """All that decides a job's numbers beside its overrides, as JSON."""
        own = {key: value for key, value in os.environ.items() if key.startswith("INTERPLAY_")}
        return {
            "entry": self.entry,
            "flags": self._flags,
            "code": self.code,
            "cwd": str(Path.cwd()),
            "environment": {k: v for k, v in own.items() if k not in (ASKED_FOR, CODE_ASKED_FOR)},
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in LIBRARIES},
        }

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")

    # What is to be done.

    def _manifest(self, jobs: list[Job], digest: str) -> Manifest:
        """What is committed is left out; what an earlier start has in the queue is followed."""
        active = self._active(digest)
        return Manifest(
            folder=str(self.folder),
            digest=digest,
            launcher=self.options["kind"],
            command=["python", *sys.argv],
            cwd=str(Path.cwd()),
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            host=this_host(),
            pid=os.getpid(),
            git=git_state(),
            code=str(ROOT),
            options=_plain(self.options),
            token=uuid4().hex[:8],
            jobs=[active.get(job.id) or self._entry(job) for job in jobs],
        )

    def _entry(self, job: Job) -> Entry:
        state = COMMITTED if self._is_committed(job) else WAITING
        return Entry(
            id=job.id,
            overrides=list(job.overrides),
            wave=job.wave,
            state=state,
            folder=str(self.folder),
        )

    def _is_committed(self, job: Job) -> bool:
        key = self._receipt(job.overrides)
        return bool(self.options["resume"] and key and is_committed(self.layout, key))

    def _receipt(self, line: Sequence[str]) -> str | None:
        typed = [*line, *self._hydra_overrides]
        if self.code is None or not is_certain(typed):
            return None
        return receipt_key(line, self.surroundings)

    def _asking(self, line: Sequence[str]) -> dict[str, str]:
        """Environment that asks a job for its receipt; one of edited code leaves none."""
        key = self._receipt(line)
        if key is None:
            return {}
        copied = bool(self.options["snapshot"])
        return {ASKED_FOR: key, **({} if copied else {CODE_ASKED_FOR: str(self.code)})}

    def _active(self, digest: str) -> dict[str, Entry]:
        """Jobs of earlier starts of this sweep that are still in the queue."""
        if self.options["kind"] != "slurm":
            return {}
        found: dict[str, Entry] = {}
        ended: set[str | None] = set()  # what a newer start has seen end
        for earlier in manifests.earlier(self.layout, digest):
            jobs = earlier.jobs
            if not all(job.state in ENDED and not is_lost(job) for job in jobs):
                seen = look(earlier)
                note(earlier, seen)  # since when SLURM does not know a job, for the next start
                jobs = [each.entry for each in seen]
            ended |= {job.slurm for job in jobs if job.state in ENDED}
            for job in jobs:
                if job.slurm and job.state not in ENDED and job.slurm not in ended:
                    found.setdefault(job.id, job)
        return found

    # In this process.

    def _run_all_here(self, manifest: Manifest) -> list[JobReturn]:
        todo = [job for wave in manifest.waves for job in wave]
        results = []
        for number, entry in enumerate(todo):
            job = Job(id=entry.id, overrides=tuple(entry.overrides), wave=entry.wave)
            progress = Progress(job=job.id, started=time.time())
            progress.write(self.folder)
            result = self._run_here(number, job, self._asking(job.overrides))
            code = _code_of(result)
            progress.at_end(now=time.time(), exit_code=code, tail=[]).write(self.folder)
            results.append(result)
        seen = look(manifest)
        save(manifest, seen)
        self._show_end(manifest, seen)
        return results

    def _run_here(self, number: int, job: Job, asking: dict[str, str]) -> JobReturn:
        config = self.context.config_loader.load_sweep_config(self.config, list(job.overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = job.id, number
        with env_override({ASKED_FOR: "", CODE_ASKED_FOR: "", **asking}):
            result = run_job(
                hydra_context=self.context,
                task_function=self.task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return result

    # As processes, here or there.

    def _take_code(self, manifest: Manifest) -> Manifest:
        """With a snapshot of the code, or the code itself."""
        if not self.options["snapshot"] or not manifest.waiting:
            return manifest
        taken = snapshot.take(self.folder / "snapshot")
        if code_digest() != self.code:
            raise ConfigError(["the code changed while it was copied; type the command again"])
        if taken.left_out:
            shown = ", ".join(taken.left_out[:5]) + (", ..." if len(taken.left_out) > 5 else "")
            self._say(f"not in the snapshot, as git does not track them: {shown}")
        return manifests.update(
            manifest.path, lambda stored: replace(stored, code=str(taken.folder), git=taken.git)
        )

    def _command(self, job: Entry, manifest: Manifest) -> Command:
        shared = self.options["kind"] == "processes"
        return Command(
            line=[
                sys.executable,
                str(Path(manifest.code) / self.entry),
                *self._flags,
                *job.overrides,
                *self._hydra_overrides,
                "hydra.mode=RUN",
            ],
            cwd=manifest.cwd,
            sweep=str(self.folder),
            job=job.id,
            environment={
                **self._asking(job.overrides),
                **(threads_each(self.options["n_jobs"]) if shared else {}),
            },
            max_requeues=0 if shared else self.options["max_requeues"],
            session=shared,
        )

    @cached_property
    def _flags(self) -> list[str]:
        """Flags that say where the configuration is."""
        given = vars(get_args_parser().parse_known_args()[0])
        return [f"--{name.replace('_', '-')}={given[name]}" for name in FLAGS if given.get(name)]

    @cached_property
    def _hydra_overrides(self) -> list[str]:
        typed = [str(each) for each in self.config.hydra.overrides.hydra]
        return [each for each in typed if not each.lstrip("+~").startswith(NOT_FOR_A_JOB)]

    @cached_property
    def _sender(self) -> Sender:
        return Sender(
            options=_plain(self.options),
            folder=self.folder,
            command=self._command,
            say=self._say,
        )

    def _run_processes(self, manifest: Manifest) -> None:
        waves = [[self._command(job, manifest) for job in wave] for wave in manifest.waves]
        processes = Processes(waves, n_jobs=self.options["n_jobs"])
        runner = threading.Thread(target=processes.run, daemon=True)
        try:
            with ended_by_signals():
                runner.start()
                seen = watch(
                    manifest,
                    every_s=self.options["poll_seconds"],
                    ask=_interrupted,
                    alive=runner.is_alive,
                )
        except BaseException:  # whatever ends us: nobody else would end the jobs
            processes.stop()
            if runner.ident is not None:
                runner.join()
            with suppress(OSError):
                save(manifest, look(manifest))
            raise
        runner.join()
        self._conclude(manifest, [_not_started(each, processes.failures) for each in seen])

    def _follow(self, manifest: Manifest) -> None:
        """To the end; what is left to itself tells only what could not even be sent."""
        if not self.options["detach"]:
            self._conclude(manifest, watch(manifest, every_s=self.options["poll_seconds"]))
        elif any(job.state == FAILED for job in manifest.jobs):
            self._conclude(manifest, [Seen(entry=job, exit_code=0) for job in manifest.jobs])

    def _conclude(self, manifest: Manifest, seen: list[Seen]) -> None:
        """Tell what failed, and hand the exit codes to the process."""
        self._show_end(manifest, seen)
        ended = getattr(self.task, "ended", None)
        for each in seen:
            if ended is not None and each.state in ENDED:
                code = 0 if each.state not in (FAILED, CANCELLED) else each.exit_code or 1
                ended(shlex.join(each.entry.overrides), code)

    def _show_end(self, manifest: Manifest, seen: list[Seen]) -> None:
        """The table, and what failed."""
        Console().print(overview(manifest, seen))
        told = failures(seen)
        if told:
            self._say(told)
        if finished(seen) and self.entry == "evaluate.py":
            self._say(f"side by side: python report.py results_dir={self.layout.root}")

    def _show(self, jobs: list[Job]) -> list[JobReturn]:
        """Tell what would happen, and leave nothing."""
        if self.is_here:  # each job tells its plan
            results = [self._run_here(number, job, {}) for number, job in enumerate(jobs)]
        else:
            results = []
            entries = [self._entry(job) for job in jobs]
            Console().print(job_table([Seen(entry=entry) for entry in entries]))
            if self.options["kind"] == "slurm":
                self._sender.show(entries)
        self._leave_nothing()
        return results

    def _leave_nothing(self) -> None:
        (self.folder / "multirun.yaml").unlink(missing_ok=True)  # Hydra's
        inside = [each for each in self.folder.parents if each.is_relative_to(self.layout.root)]
        with suppress(OSError):  # the first that holds something
            for each in (self.folder, *inside):
                each.rmdir()


def _not_started(seen: Seen, failures: Mapping[str, str]) -> Seen:
    """A job that could not even be run has failed, and so has one that nobody runs any more."""
    if seen.entry.id not in failures and seen.state in ENDED:
        return seen
    reason = failures.get(seen.entry.id, "was not run to its end")
    return replace(seen, entry=replace(seen.entry, state=FAILED, reason=reason))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _interrupted() -> Any:
    """Processes of this machine end with their parent."""
    raise KeyboardInterrupt


def _code_of(result: JobReturn) -> int:
    if result.status is not JobStatus.COMPLETED:
        return 1
    return result.return_value if isinstance(result.return_value, int) else 0


def _plain(options: Any) -> dict[str, Any]:
    if isinstance(options, DictConfig):
        return dict(OmegaConf.to_container(options, resolve=True))  # type: ignore[arg-type]
    return {
        key: _plain(value) if isinstance(value, DictConfig) else value
        for key, value in options.items()
    }
