"""The command line of a job as an object: sent to a node, run, stopped for a requeue, run again."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from cluster.progress import TAIL_LINES, Progress

PATIENCE_S = 10.0
"""For a command that is asked to end; cells are committed whole, so nothing is lost by force."""

DEAF = ("sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh")
"""SLURM signals every process of a step. Only ours asks for a requeue: the command ignores the
signals, and Lightning, which finds them taken, does not requeue either."""


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
        session: Whether an interrupt of the terminal is kept from the command.
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

    def __call__(self) -> int:
        """Run to the end, and end this process with the command's exit code where it is not 0."""
        exit_code, tail = self.run(None, sys.stderr.buffer)
        if exit_code:
            sys.stderr.write(f"{tail[-1] if tail else 'ended'}: exit code {exit_code}\n")
            sys.exit(exit_code)
        return exit_code

    def run(self, output: IO[bytes] | None, errors: IO[bytes]) -> tuple[int, list[str]]:
        """Exit code, 128 + n for signal n, and last lines of the error stream."""
        requeues = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        self._progress = Progress(
            job=self.job,
            rank=int(os.environ.get("SLURM_PROCID", "0")) if _in_slurm() else 0,
            slurm=_slurm_id(),
            requeues=requeues,
            started=time.time(),
        )
        self._progress.write(Path(self.sweep))
        if requeues > self.max_requeues:
            return self._end(1, [_too_often(requeues, self.max_requeues)])
        try:
            return self._end(*self._carry_out(output, errors))
        except OSError as error:  # the node does not see the folder, or has no memory left
            return self._end(1, [f"the command could not be started: {error}"])

    def _carry_out(self, output: IO[bytes] | None, errors: IO[bytes]) -> tuple[int, list[str]]:
        tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        with subprocess.Popen(
            [*DEAF, *self.line],
            cwd=self.cwd,
            env={**os.environ, **self.environment},
            stdout=output,
            stderr=subprocess.PIPE,
            start_new_session=self.session,
        ) as process:
            self._process = process
            assert process.stderr is not None
            for line in process.stderr:
                tail.append(line)
                errors.write(line)
                errors.flush()
        said = [line.decode(errors="replace").rstrip() for line in tail]
        if process.returncode >= 0:
            return process.returncode, said
        name = signal.Signals(-process.returncode).name
        return 128 - process.returncode, [*said, f"killed by {name}"]

    def stop(self) -> None:
        """End the command, by force if need be."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """To the command, and to the ranks it has started where they are a group of their own."""
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


def _too_often(requeues: int, allowed: int) -> str:
    return (
        f"stopped by SLURM {requeues} times, max_requeues allows {allowed} requeues; what is "
        "committed stays, the same command goes on from there"
    )


def _in_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def _slurm_id() -> str | None:
    if not _in_slurm():
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")
