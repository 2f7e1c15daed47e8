"""What has become of each job, from the manifest, the jobs' own files, and SLURM."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import slurm
from cluster.manifest import (
    CANCELLED,
    COMMITTED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    WAITING,
    Entry,
    Manifest,
)
from cluster.progress import TAIL_LINES, Progress, progress_of
from core.files import this_host

KILLED = "left the queue without a result: killed, or its node was lost"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A job as it is now.

    Args:
        entry: Of the manifest, with the state of now.
        exit_code: The worst of its ranks, 0 while none has ended.
        tail: Last lines of the error stream of the rank that failed.
        log: File with the whole error stream, where there is one.
        requeues: How often it went back into the queue.
        started: Seconds since the epoch, None before.
        ended: The same.
    """

    entry: Entry
    exit_code: int = 0
    tail: tuple[str, ...] = ()
    log: Path | None = None
    requeues: int = 0
    started: float | None = None
    ended: float | None = None

    @property
    def state(self) -> str:
        """Of now."""
        return self.entry.state


def look(manifest: Manifest) -> list[Seen]:
    """Every job of a sweep as it is now; asks SLURM once for all.

    Raises:
        cluster.slurm.SlurmError: SLURM does not answer.
    """
    folders = {job.folder for job in manifest.jobs if job.folder}
    told = {folder: progress_of(Path(folder)) for folder in folders}
    jobs = {job.id: told.get(job.folder, {}).get(job.id, []) for job in manifest.jobs}
    entries = [_with_slurm_id(job, jobs[job.id]) for job in manifest.jobs]
    asked = {job.slurm for job in entries if job.slurm and job.state not in ENDED}
    queue, accounts = slurm.states(asked) if asked else ({}, {})
    return [_seen(job, jobs[job.id], queue, accounts, alive=_is_alive(manifest)) for job in entries]


def _with_slurm_id(job: Entry, ranks: list[Progress]) -> Entry:
    """A job that was sent a moment before the sender died has told its id itself."""
    if job.slurm is None and ranks and ranks[0].slurm:
        return replace(job, slurm=ranks[0].slurm)
    return job


def _seen(
    job: Entry,
    ranks: list[Progress],
    queue: Mapping[str, str],
    accounts: Mapping[str, str],
    *,
    alive: bool,
) -> Seen:
    state, reason = job.state, job.reason
    if state not in ENDED:
        if job.slurm:
            word = accounts.get(job.slurm)
            state, reason = slurm_state(ranks, queue.get(job.slurm), word)
        else:
            state, reason = _state_here(ranks, alive=alive)
    codes = [each.exit_code for each in ranks if each.exit_code]
    failing = next((each for each in ranks if each.exit_code), None)
    log = _log(job, failing)
    tail = tuple(failing.tail if failing else ())
    if state == FAILED and failing is None and log is not None:
        tail = tuple(_last_lines(log))
    ended = [each.ended for each in ranks if each.ended is not None]
    return Seen(
        entry=replace(job, state=state, reason=reason),
        exit_code=max(codes, default=1 if state == FAILED else 0),
        tail=tail,
        log=log,
        requeues=max((each.requeues for each in ranks), default=0),
        started=min((each.started for each in ranks), default=None),
        ended=max(ended) if ended and state in ENDED else None,
    )


def slurm_state(ranks: list[Progress], queued: str | None, account: str | None) -> tuple[str, str]:
    """State and reason of a submitted job: the queue first, then what ended it."""
    if queued is not None and (queued in slurm.ALIVE or queued in slurm.QUEUED):
        return (RUNNING if queued in slurm.ALIVE else PENDING), ""
    if account == "CANCELLED":
        return CANCELLED, "cancelled"
    codes = [each.exit_code for each in ranks]
    if any(codes):
        return FAILED, _exit_codes(ranks)
    if account == "COMPLETED" or (codes and all(code == 0 for code in codes)):
        return DONE, ""
    if account in slurm.ALIVE:
        return RUNNING, ""
    if account in slurm.QUEUED:
        return PENDING, ""
    return FAILED, f"SLURM says {account}" if account else KILLED


def _state_here(ranks: list[Progress], *, alive: bool) -> tuple[str, str]:
    """State and reason of a job without SLURM, whose parent is `alive` or not."""
    if not ranks:
        return (WAITING, "") if alive else (FAILED, "was not started")
    code = ranks[0].exit_code
    if code is None:
        return (RUNNING, "") if alive else (FAILED, "was interrupted")
    return (FAILED, _exit_codes(ranks)) if code else (DONE, "")


def _exit_codes(ranks: list[Progress]) -> str:
    failed = [each for each in ranks if each.exit_code]
    if len(ranks) == 1:
        return f"exit code {failed[0].exit_code}"
    return ", ".join(f"rank {each.rank}: exit code {each.exit_code}" for each in failed)


def _is_alive(manifest: Manifest) -> bool:
    """Whether the process that runs the jobs lives; on another machine nobody can tell."""
    if manifest.host != this_host():
        return True
    try:
        os.kill(manifest.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _log(job: Entry, failing: Progress | None) -> Path | None:
    folder = Path(job.folder) / slurm.LOGS
    rank = failing.rank if failing else 0
    name = f"{job.slurm}_{rank}_log.err" if job.slurm else f"{job.id}.err"
    path = folder / name
    return path if path.exists() else None


def _last_lines(path: Path, most: int = TAIL_LINES) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-most:]


def is_over(seen: list[Seen]) -> bool:
    """Whether nothing of a sweep changes any more."""
    return all(each.state in ENDED for each in seen)


def count(seen: list[Seen], *states: str) -> int:
    """Number of jobs in one of some states."""
    return sum(each.state in states for each in seen)


def finished(seen: list[Seen]) -> int:
    """Number of jobs whose cells are all committed."""
    return count(seen, DONE, COMMITTED)
