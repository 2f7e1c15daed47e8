"""SLURM's commands: ask for the states of jobs, cancel them."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
}
"""The words after which nothing comes; what is neither here nor below runs."""

QUEUED = {
    "PENDING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SUSPENDED",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}

ANSWER_S = 60
"""How long SLURM's commands may take to answer."""

UNKNOWN_ID = "Invalid job id"
"""What squeue says of jobs that have left its memory."""


class SlurmError(OSError):
    """A command of SLURM failed or is not there.

    Args:
        text: A sentence.
        said: The last line of what the command itself said.
    """

    def __init__(self, text: str, said: str = "") -> None:
        super().__init__(text)
        self.said = said or text


def states(ids: Collection[str]) -> dict[str, str]:
    """SLURM's word for each job that it knows: id -> state.

    The controller is asked first: it knows what is alive, and for some minutes what has ended and
    why. Of what it does not know, the accounting says how it ended, where there is one; that it
    lives is not believed.

    Raises:
        SlurmError: SLURM does not answer.
    """
    queue = {job: word for job, word in _pairs(_queued(ids)) if job in ids}
    gone = [job for job in ids if job not in queue]
    accounts = accounted(gone) if gone else {}
    ended = {job: word for job, word in accounts.items() if word in OVER}
    return {**{job: ended[job] for job in gone if job in ended}, **queue}


def _queued(ids: Collection[str]) -> str:
    try:
        return call(
            *("squeue", "--noheader", "--array", "--states=all"),
            *("--format=%i|%T", f"--jobs={_arrays(ids)}"),
        )
    except SlurmError as error:
        if UNKNOWN_ID in error.said:
            return ""
        raise


def named(names: Collection[str], since: str = "") -> dict[str, str]:
    """Which arrays, or jobs, were sent under these names: name -> id.

    Args:
        names: Each was used once.
        since: ISO 8601, before the first of them was sent; today by default.

    Raises:
        SlurmError: SLURM does not answer.
    """
    wanted = f"--name={','.join(sorted(names))}"
    told = call("squeue", "--noheader", "--states=all", "--format=%i|%j", wanted)
    day = (datetime.fromisoformat(since) if since else datetime.now()) - timedelta(days=1)
    with suppress(SlurmError):  # no accounting
        told += call(
            *("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,JobName"),
            *(f"--starttime={day.date().isoformat()}", wanted),
        )
    lines = [line.strip().partition("|") for line in told.splitlines()]
    return {name: job.partition("_")[0] for job, _, name in lines if name in names}


def _arrays(ids: Iterable[str]) -> str:
    return ",".join(sorted({job.partition("_")[0] for job in ids}))


def accounted(ids: Iterable[str]) -> dict[str, str]:
    """What the accounting says of jobs; empty where a cluster has none."""
    try:
        told = call(
            *("sacct", "--allocations", "--noheader", "--parsable2"),
            *("--format=JobID,State", f"--jobs={_arrays(ids)}"),
        )
    except SlurmError:
        return {}
    return dict(_pairs(told))


def require() -> None:
    """Refuse to send anything where there is no SLURM.

    Raises:
        SlurmError: Its commands are not there.
    """
    for name in ("sbatch", "srun", "squeue"):
        if shutil.which(name) is None:
            raise SlurmError(_absent(name))


def has_accounting() -> bool:
    """Whether a job that was killed leaves a trace outside its own files."""
    try:
        call("sacct", "--allocations", "--noheader", "--format=JobID", "--starttime=now")
    except SlurmError:
        return False
    return True


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue, running or not."""
    if ids:
        call("scancel", *ids)


def call(*command: str, seconds: float = ANSWER_S, keep: Collection[int] = ()) -> str:
    """What a command of SLURM prints.

    Args:
        *command: With its arguments.
        seconds: It may take.
        keep: Descriptors that it holds too, for as long as it runs.

    Raises:
        SlurmError: It failed, did not answer, or is not there.
    """
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env=_plain(),
            pass_fds=tuple(keep),
        )
    except FileNotFoundError as error:
        raise SlurmError(_absent(command[0])) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} has not answered within {seconds:g} s") from error
    if answer.returncode:
        said = _last_line(answer.stderr)
        raise SlurmError(f"{command[0]} failed: {said}", said)
    return answer.stdout


def _absent(command: str) -> str:
    return (
        f"{command} was not found: mode=cluster is for the login node of a SLURM cluster; "
        "mode=local runs the same sweep here"
    )


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide what a job around us would hand to the jobs we send; where SLURM is stays known.

    submitit's own `clean_env` hides `SLURM_CONF` too, and sbatch finds no cluster.
    """
    hidden = {key: value for key, value in os.environ.items() if _is_of_a_job(key)}
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _is_of_a_job(key: str) -> bool:
    if key in ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SUBMITIT_PREEMPT_SIGNAL"):
        return False
    ranks = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return key in ranks or key.startswith(("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_"))


def _plain() -> dict[str, str]:
    """Our environment without the user's own defaults of the output."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SACCT_", "SQUEUE_", "SLURM_TIME_FORMAT"))
    }


def _pairs(told: str) -> Iterator[tuple[str, str]]:
    """Job id and state of each line; a range of an array is spread."""
    for line in told.splitlines():
        job, _, state = line.partition("|")
        for each in spread(job.strip()):
            yield each, (state.split() or ["UNKNOWN"])[0].rstrip("+")


def spread(job: str) -> list[str]:
    """Ids that an id of SLURM stands for.

    Example:
        >>> spread("12_[0-1,7%2]"), spread("12_3"), spread("12")
        (['12_0', '12_1', '12_7'], ['12_3'], ['12'])
    """
    match = re.fullmatch(r"(\d+)_\[([^\]%]*)(?:%\d+)?\]", job)
    if match is None:
        return [job]
    array, ranges = match.groups()
    bounds = [part.partition("-") for part in ranges.split(",")]
    return [
        f"{array}_{index}"
        for first, _, last in bounds
        for index in range(int(first), int(last or first) + 1)
    ]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it did not say why"
