"""The command line of a job as an object: sent to a node, run, stopped for a requeue, run again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from cluster.progress import Progress, last_lines, log_file

PATIENCE_S = 10.0
"""For a command that is asked to end; cells are committed whole, so nothing is lost by force."""

EVERY_S = 0.05

STAY_S = 120.0
"""How long a rank waits to be ended with its job: the first has its patience to end its command,
and submitit gives `scontrol requeue` a minute."""

TIED = (sys.executable, "-I", "-S", str(Path(__file__).with_name("tied.py")))


@dataclass
class Command:
    """Run a command line and tell how it went; `submitit` pickles it, calls it and may stop it.

    Args:
        line: Program and arguments.
        cwd: Folder to run in.
        sweep: Folder of the sweep, where progress is told.
        job: Id of the job.
        environment: Variables to add.
        max_requeues: How often the job may go back into the queue.
        session: Whether it is a child of this machine: kept from an interrupt of the terminal,
            which its parent passes on, and ended when its parent is killed.
    """

    line: list[str]
    cwd: str
    sweep: str
    job: str
    environment: dict[str, str] = field(default_factory=dict)
    max_requeues: int = 0
    session: bool = False
    _process: Any = field(default=None, init=False, repr=False)
    _progress: Any = field(default=None, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)
    _requeued: bool = field(default=False, init=False, repr=False)

    def __call__(self) -> int:
        """Run to the end, and end this process with the command's exit code where it is not 0."""
        exit_code, tail = self.run()
        if exit_code:
            sys.stderr.write(f"{tail[-1] if tail else 'ended'}: exit code {exit_code}\n")
            sys.exit(exit_code)
        return exit_code

    def run(self) -> tuple[int, list[str]]:
        """Exit code, 128 + n for signal n, and last lines of the error stream."""
        known = {} if self.session else os.environ
        requeues = int(known.get("SLURM_RESTART_COUNT", "0"))
        self._progress = Progress(
            job=self.job,
            rank=int(known.get("SLURM_PROCID", "0")),
            ranks=int(known.get("SLURM_STEP_NUM_TASKS", "1")),
            slurm=_slurm_id(known),
            requeues=requeues,
            started=time.time(),
        )
        self._progress.write(Path(self.sweep))
        if requeues > self.max_requeues:
            return self._end(1, [_too_often(requeues, self.max_requeues)])
        if self._progress.rank:
            self._listen()
        try:
            exit_code, tail = self._carry_out()
        except OSError as error:  # the node does not see the folder, or has no memory left
            exit_code, tail = 1, [f"the command could not be started: {error}"]
        if exit_code and self._requeued:
            time.sleep(STAY_S)  # a failure told now would end the job before it is requeued
        return self._end(exit_code, tail)

    def _listen(self) -> None:
        """Notice that SLURM asks for a requeue: the first rank ends its command, ours fails."""
        number = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
        before = signal.getsignal(number)

        def asked(*given: Any) -> None:
            self._requeued = True
            if callable(before):
                before(*given)

        signal.signal(number, asked)

    def _carry_out(self) -> tuple[int, list[str]]:
        """The log is written by the command itself: a pipe would last as long as its children."""
        log = log_file(Path(self.sweep), self.job, self._progress.slurm, self._progress.rank)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors, self._output(log) as output:
            start = log.stat().st_size
            self._process = subprocess.Popen(
                [*TIED, str(os.getpid()), *self.line],
                cwd=self.cwd,
                env={**threads_of_rank(os.environ), **os.environ, **self.environment},
                stdout=output,
                stderr=errors,
                start_new_session=self.session,
            )
            if self._stopped:
                self._signal(signal.SIGTERM)
            while (code := self._process.poll()) is None:
                time.sleep(EVERY_S)  # inside wait() it could not be stopped by our own signals
        said = last_lines(log, start)
        if code >= 0:
            return code, said
        return 128 - code, [*said, f"killed by {_name_of(-code)}"]

    def _output(self, log: Path) -> AbstractContextManager[IO[bytes] | None]:
        """Where its results go: beside the log, or where SLURM has put ours."""
        return log.with_suffix(".out").open("ab") if self.session else nullcontext()

    def stop(self) -> None:
        """End the command, by force if need be."""
        self._stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        if self.session:  # its children may have missed the polite word
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """To the command, and to the ranks it has started where they are a group of their own."""
        with suppress(ProcessLookupError):
            if self.session:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    def checkpoint(self) -> Any:
        """What goes back into the queue: the same command, which finds its committed cells."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        requeues = self._progress.requeues
        if requeues >= self.max_requeues:
            self._end(1, [_too_often(requeues + 1, self.max_requeues)])
            return None
        return DelayedSubmission(replace(self))

    def _end(self, exit_code: int, tail: list[str]) -> tuple[int, list[str]]:
        self._progress.at_end(now=time.time(), exit_code=exit_code, tail=tail).write(
            Path(self.sweep)
        )
        return exit_code, tail


def threads_of_rank(environment: Mapping[str, str]) -> dict[str, str]:
    """Threads that SLURM's cores allow a rank, where it tells them.

    Example:
        >>> threads_of_rank({"SLURM_CPUS_ON_NODE": "8", "SLURM_NTASKS_PER_NODE": "2"})
        {'OMP_NUM_THREADS': '4'}
    """
    if "SLURM_CPUS_ON_NODE" not in environment:
        return {}
    ranks = int(environment.get("SLURM_NTASKS_PER_NODE", "1"))
    shared = int(environment["SLURM_CPUS_ON_NODE"]) // ranks
    cores = int(environment.get("SLURM_CPUS_PER_TASK", shared))
    return {"OMP_NUM_THREADS": str(max(1, cores))}


def _name_of(number: int) -> str:
    """Of a signal; those of real time have numbers alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _too_often(requeues: int, allowed: int) -> str:
    return (
        f"stopped by SLURM {requeues} times, max_requeues allows {allowed} requeues; what is "
        "committed stays, the same command goes on from there"
    )


def _slurm_id(known: Mapping[str, str]) -> str | None:
    if known.get("SUBMITIT_EXECUTOR") != "slurm":
        return None
    array = known.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{known['SLURM_ARRAY_TASK_ID']}" if array else known.get("SLURM_JOB_ID")
