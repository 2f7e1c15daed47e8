"""SLURM: submit an array, ask for the states of jobs, cancel them."""

import getpass
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.command import Command
from core.errors import ConfigError, unknown

OURS = ("job_name", "comment", "stderr_to_stdout")
"""Options of submitit that a sweep sets itself."""

LOGS = "logs"

ALIVE = {"CONFIGURING", "COMPLETING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED"}
QUEUED = {
    "PENDING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SUSPENDED",
    "RESV_DEL_HOLD",
}

ANSWER_S = 60
"""How long SLURM's commands may take to answer."""


class SlurmError(OSError):
    """A command of SLURM failed or is not there."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to submit.

    Args:
        folder: Of the sweep.
        code: Folder of the code that the jobs run.
        options: sbatch options by submitit's names; `time` in minutes.
        max_requeues: How often a job may go back into the queue.
    """

    folder: Path
    code: Path
    options: Mapping[str, Any]
    max_requeues: int


def submit(commands: Sequence[Command], settings: Settings, *, dependency: str = "") -> list[str]:
    """Send one array; returns the job id of each command, in their order.

    Raises:
        SlurmError: sbatch refused it; the text is what it said.
    """
    from submitit.core.utils import FailedJobError

    executor = _executor(settings, dependency)
    try:
        with _outside_of_jobs():
            jobs = executor.submit_array(list(commands))
    except FailedJobError as error:
        raise SlurmError(f"sbatch refused the sweep: {_last_line(str(error))}") from error
    return [str(job.job_id) for job in jobs]


def script(count: int, settings: Settings, *, dependency: str = "") -> str:
    """The batch script that `submit` would send for `count` jobs."""
    executor = _executor(settings, dependency)
    if count > 1:
        executor.parameters["map_count"] = count
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry"))


def _executor(settings: Settings, dependency: str) -> Any:
    from submitit.slurm.slurm import SlurmExecutor

    class Anywhere(SlurmExecutor):
        """May be made without SLURM, to show a script; its absence is told before a submit."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    options = _options(settings)
    if dependency:
        options["dependency"] = dependency
    known = Anywhere._valid_parameters() - set(OURS)
    strange = [
        unknown("option of hydra.launcher", name, known) for name in options if name not in known
    ]
    if strange:
        raise ConfigError(strange)
    executor = Anywhere(settings.folder / LOGS, max_num_timeout=settings.max_requeues)
    executor.update_parameters(
        **options,
        **{"job_name": f"interplay-{settings.folder.name}", "comment": settings.folder.name},
    )
    return executor


def _options(settings: Settings) -> dict[str, Any]:
    """The user's options, with what makes exit codes true and the code that of the snapshot."""
    options = dict(settings.options)
    teardown = "; ".join(options.pop("teardown", None) or [])
    # as the last lines of the script they would decide its exit code
    trap = [f"trap {shlex.quote(teardown)} EXIT"] if teardown else []
    # our own part of a job comes from there too: python looks in its folder first
    there = f"cd {shlex.quote(str(settings.code))}"
    options["setup"] = [*(options.get("setup") or []), there, *trap]
    if options.get("use_srun", True):
        options["srun_args"] = [*(options.get("srun_args") or []), "--kill-on-bad-exit=1"]
    return options


def states(ids: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What the queue and the accounting say of jobs: id -> SLURM's word.

    The queue knows what is alive; the accounting is asked only where a job has left it, and says
    nothing where there is none.

    Raises:
        SlurmError: SLURM does not answer.
    """
    user = getpass.getuser()
    queued = _call("squeue", "--noheader", "--array", f"--user={user}", "--format=%i|%T")
    queue = {job: state for job, state in _pairs(queued) if job in ids}
    gone = [job for job in ids if job not in queue]
    return queue, accounted(gone) if gone else {}


def accounted(ids: Iterable[str]) -> dict[str, str]:
    """What the accounting says of jobs; empty where a cluster has none."""
    arrays = ",".join(sorted({job.partition("_")[0] for job in ids}))
    try:
        told = _call(
            *("sacct", "--allocations", "--noheader", "--parsable2"),
            *("--format=JobID,State", f"--jobs={arrays}"),
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
        _call("sacct", "--allocations", "--noheader", "--format=JobID", "--starttime=now")
    except SlurmError:
        return False
    return True


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue, running or not."""
    if ids:
        _call("scancel", *ids)


def _call(*command: str) -> str:
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=ANSWER_S, env=_plain()
        )
    except FileNotFoundError as error:
        raise SlurmError(_absent(command[0])) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} has not answered within {ANSWER_S} s") from error
    if answer.returncode:
        raise SlurmError(f"{command[0]} failed: {_last_line(answer.stderr)}")
    return answer.stdout


def _absent(command: str) -> str:
    return (
        f"{command} was not found: mode=cluster is for the login node of a SLURM cluster; "
        "mode=local runs the same sweep here"
    )


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
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
