"""What has become of each job, from the manifest, the jobs' own files, and SLURM."""

import os
import signal
import time
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
from cluster.progress import Progress, last_lines, log_file, progress_of
from core.files import this_host

KILLED = "left the queue without a result: killed, or its node was lost"

GONE_S = 60.0
"""How long a job that SLURM does not know is waited for: as long as another machine's last words
may take to be seen on a shared file system, which keeps what it knows of a folder for a minute."""

SIGNALS = 128

OWN_WORDS = ("FAILED", "COMPLETED")
"""States of SLURM that say no more of a failure than the exit code does."""


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


def look(manifest: Manifest, *, anywhere: bool = False) -> list[Seen]:
    """Every job of a sweep as it is now; asks SLURM once for all.

    Args:
        manifest: Of the sweep.
        anywhere: Whether what has ended is told where SLURM cannot be asked whether it has a job
            that could not be sent.

    Raises:
        cluster.slurm.SlurmError: SLURM does not answer.
    """
    folders = {job.folder for job in manifest.jobs if job.folder}
    told = {folder: progress_of(Path(folder)) for folder in folders}
    jobs = {job.id: _last_start(told.get(job.folder, {}).get(job.id, [])) for job in manifest.jobs}
    entries = [_with_slurm_id(job, jobs[job.id]) for job in manifest.jobs]
    entries = _adopted(entries, manifest.started, anywhere=anywhere)
    asked = {job.slurm for job in entries if job.slurm and job.state not in ENDED}
    words = slurm.states(asked) if asked else {}
    alive = _is_alive(manifest)
    return [_seen(job, jobs[job.id], words, alive=alive) for job in entries]


def remembered(manifest: Manifest, seen: list[Seen]) -> Manifest:
    """The manifest with what the next look needs of this one."""
    pairs = zip(manifest.jobs, seen, strict=True)
    return manifest.with_jobs({job.id: _remembered(job, each.entry) for job, each in pairs})


def _remembered(job: Entry, now: Entry) -> Entry:
    """A job that seemed not to be sent, and was found, is asked for again."""
    if job.slurm != now.slurm:
        job = replace(job, state=PENDING, reason="")
    return replace(job, slurm=now.slurm, missing_since=now.missing_since)


def is_lost(job: Entry) -> bool:
    """Whether SLURM may have the job although nobody has noted its id."""
    return bool(job.sent_as) and job.slurm is None and job.state in (WAITING, FAILED)


def _last_start(ranks: list[Progress]) -> list[Progress]:
    """Without what a rank told before the job went back into the queue."""
    last = max((each.requeues for each in ranks), default=0)
    return [each for each in ranks if each.requeues == last]


def _with_slurm_id(job: Entry, ranks: list[Progress]) -> Entry:
    """A job that was sent a moment before the sender died has told its id itself."""
    if job.slurm is None and ranks and ranks[0].slurm:
        return replace(job, slurm=ranks[0].slurm, state=PENDING)
    return job


def _adopted(jobs: list[Entry], since: str, *, anywhere: bool) -> list[Entry]:
    """Jobs whose sender died before it could note their ids are known to SLURM by their name."""
    lost = [job for job in jobs if is_lost(job)]
    if not lost:
        return jobs
    try:
        found = slurm.named({_split(job.sent_as)[0] for job in lost}, since)
    except slurm.SlurmError:
        if anywhere and all(job.state == FAILED for job in lost):
            return jobs
        raise
    return [_adopt(job, found) if is_lost(job) else job for job in jobs]


def _adopt(job: Entry, found: Mapping[str, str]) -> Entry:
    name, task = _split(job.sent_as)
    if name not in found:
        return job
    return replace(job, slurm=found[name] + task, state=PENDING, reason="")


def _split(sent_as: str) -> tuple[str, str]:
    """Name of an array and place in it.

    Example:
        >>> _split("sweep-w0_12"), _split("my_2-w0")
        (('sweep-w0', '_12'), ('my_2-w0', ''))
    """
    name, _, task = sent_as.rpartition("-w")
    number, line, place = task.partition("_")
    return f"{name}-w{number}", line + place


def _seen(job: Entry, ranks: list[Progress], words: Mapping[str, str], *, alive: bool) -> Seen:
    state, reason, missing_since = job.state, job.reason, None
    if state not in ENDED and job.slurm:
        word = words.get(job.slurm)
        missing_since = (job.missing_since or time.time()) if word is None else None
        missing_s = time.time() - (missing_since or time.time())
        state, reason = slurm_state(ranks, word, missing_s=missing_s)
    elif state not in ENDED:
        state, reason = _state_here(ranks, alive=alive)
    codes = [each.exit_code for each in ranks if each.exit_code]
    failing = next((each for each in ranks if each.exit_code), None)
    log = _log(job, failing)
    tail = tuple(failing.tail if failing else ())
    if state == FAILED and failing is None and log is not None:
        tail = tuple(last_lines(log))
    ended = [each.ended for each in ranks if each.ended is not None]
    return Seen(
        entry=replace(job, state=state, reason=reason, missing_since=missing_since),
        exit_code=max(codes, default=1 if state == FAILED else 0),
        tail=tail,
        log=log,
        requeues=max((each.requeues for each in ranks), default=0),
        started=min((each.started for each in ranks), default=None),
        ended=max(ended) if ended and state in ENDED else None,
    )


def slurm_state(
    ranks: list[Progress], word: str | None, *, missing_s: float = 0.0
) -> tuple[str, str]:
    """State and reason of a submitted job.

    Args:
        ranks: What its ranks have told since it was last started.
        word: SLURM's state of it; None where SLURM does not know it.
        missing_s: For how long SLURM has not known it.
    """
    if word in slurm.QUEUED:
        return PENDING, ""
    if word is not None and word not in slurm.OVER:
        return RUNNING, ""
    if word == "CANCELLED":
        return CANCELLED, "cancelled"
    causes = [f"SLURM says {word}"] if word not in (None, *OWN_WORDS) else []
    if any(each.exit_code for each in ranks):
        return FAILED, ", ".join([*causes, _exit_codes(ranks)])
    silent = _silent(ranks)
    if word == "COMPLETED" or (ranks and not silent):
        return DONE, ""
    if word is not None:
        return FAILED, f"SLURM says {word}"
    if missing_s < GONE_S:
        return RUNNING, "SLURM does not know it, it may still tell how it ended"
    return FAILED, f"rank {', '.join(map(str, silent))} {KILLED}" if ranks else KILLED


def _silent(ranks: list[Progress]) -> list[int]:
    """Ranks that have not told their end, those among them that have told nothing."""
    ended = {each.rank for each in ranks if each.exit_code is not None}
    expected = max((max(each.ranks, each.rank + 1) for each in ranks), default=0)
    return [rank for rank in range(expected) if rank not in ended]


def _state_here(ranks: list[Progress], *, alive: bool) -> tuple[str, str]:
    """State and reason of a job without SLURM, whose parent is `alive` or not."""
    if not ranks:
        return (WAITING, "") if alive else (FAILED, "was not started")
    code = ranks[0].exit_code
    if code is None:
        return (RUNNING, "") if alive else (FAILED, "was interrupted")
    return (FAILED, _exit_codes(ranks)) if code else (DONE, "")


def _exit_codes(ranks: list[Progress]) -> str:
    failed = [(each.rank, _ended_with(each.exit_code)) for each in ranks if each.exit_code]
    if max(each.ranks for each in ranks) == 1 == len(ranks):
        return failed[0][1]
    return ", ".join(f"rank {rank}: {cause}" for rank, cause in failed)


def _ended_with(code: int) -> str:
    """An exit code in words; a shell's 128 + n stands for signal n.

    Example:
        >>> _ended_with(1), _ended_with(137)
        ('exit code 1', 'killed by signal 9')
    """
    if SIGNALS < code < SIGNALS + signal.NSIG:
        return f"killed by signal {code - SIGNALS}"
    return f"exit code {code}"


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
    rank = failing.rank if failing else 0
    path = log_file(Path(job.folder), job.id, job.slurm, rank)
    return path if path.exists() else None


def is_over(seen: list[Seen]) -> bool:
    """Whether nothing of a sweep changes any more."""
    return all(each.state in ENDED for each in seen)


def count(seen: list[Seen], *states: str) -> int:
    """Number of jobs in one of some states."""
    return sum(each.state in states for each in seen)


def finished(seen: list[Seen]) -> int:
    """Number of jobs whose cells are all committed."""
    return count(seen, DONE, COMMITTED)
