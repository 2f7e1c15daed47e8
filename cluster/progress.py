"""What a job itself tells about itself: one small file a process, whole at every moment."""

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core.files import this_host
from store.sealed import read_folder, write_sealed

FOLDER = "jobs"
LOGS = "logs"
TAIL_LINES = 15
"""Last lines of an error stream that are kept with a failure."""
TAIL_BYTES = 20_000
"""Of which they are looked for."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One start of a job's command on one rank.

    Args:
        job: Id within the sweep.
        rank: Of this process.
        ranks: How many there are.
        slurm: Job id of SLURM, `12_3`.
        host: Machine and container.
        pid: Of the process that runs the command.
        requeues: How often SLURM has put the job back into the queue.
        started: Seconds since the epoch.
        ended: The same, None while it runs.
        exit_code: None while it runs.
        tail: Last lines it wrote to its error stream.
    """

    job: str
    rank: int = 0
    ranks: int = 1
    slurm: str | None = None
    host: str = field(default_factory=this_host)
    pid: int = field(default_factory=os.getpid)
    requeues: int = 0
    started: float = 0.0
    ended: float | None = None
    exit_code: int | None = None
    tail: list[str] = field(default_factory=list)

    def write(self, sweep: Path) -> None:
        """Put it beside those of the other jobs."""
        write_sealed(sweep / FOLDER / f"{self.job}.{self.rank}.json", asdict(self))

    def at_end(self, *, now: float, exit_code: int, tail: list[str]) -> "Progress":
        """The same, ended."""
        return replace(self, ended=now, exit_code=exit_code, tail=tail[-TAIL_LINES:])


def progress_of(sweep: Path) -> dict[str, list[Progress]]:
    """Job id -> what its ranks have told, in the order of the ranks."""
    told: dict[str, list[Progress]] = {}
    for _, stored in read_folder(sweep / FOLDER):
        each = Progress(**_checked(stored))
        told.setdefault(each.job, []).append(each)
    return {job: sorted(ranks, key=lambda one: one.rank) for job, ranks in told.items()}


def log_file(sweep: Path, job: str, slurm: str | None, rank: int) -> Path:
    """What a rank of a job, and SLURM about it, write to the error stream: submitit's name."""
    return sweep / LOGS / (f"{slurm}_{rank}_log.err" if slurm else f"{job}.err")


def last_lines(path: Path, start: int = 0, most: int = TAIL_LINES) -> list[str]:
    """Last lines of a log that say something, of what stands behind `start` bytes."""
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-most:]


def _checked(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: stored[key] for key in Progress.__dataclass_fields__ if key in stored}
