"""SLURM: submit an array, ask for the states of jobs, cancel them."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cluster.command import Command
from cluster.progress import LOGS
from core.errors import ConfigError, unknown

OURS = ("job_name", "comment", "stderr_to_stdout")
"""Options of submitit that a sweep sets itself."""

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

SEND_S = 600
"""The same for sbatch, which tries again by itself while the controller is busy."""

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


def submit(
    commands: Sequence[Command],
    settings: Settings,
    name: str,
    *,
    dependency: str = "",
    keep: Collection[int] = (),
) -> list[str]:
    """Send one array; returns the job id of each command, in their order.

    What the jobs run lies under `name` before sbatch is called, and they fetch it by themselves:
    an array whose sender is killed a moment later is whole.

    Args:
        commands: Of the jobs.
        settings: How to submit.
        name: Of the array: no other has it.
        dependency: What SLURM waits for.
        keep: Descriptors that sbatch holds too, for as long as it runs.

    Raises:
        SlurmError: sbatch refused it; the text is what it said.
    """
    from submitit.core.utils import DelayedSubmission

    executor = _executor(settings, name, dependency, len(commands))
    executor.folder.mkdir(parents=True, exist_ok=True)
    for index, command in enumerate(commands):
        sent = DelayedSubmission(command)
        sent.set_timeout(executor.parameters["time"], settings.max_requeues)
        sent.dump(executor.folder / f"{name}_{index}.pkl")
    batch = executor.folder / f"{name}.sh"
    batch.write_text(_text(executor))
    array = _sent(batch, name, keep)
    return [array] if len(commands) == 1 else [f"{array}_{i}" for i in range(len(commands))]


def _sent(batch: Path, name: str, keep: Collection[int]) -> str:
    """Id of the array, or job; a busy controller may take it and not say so."""
    try:
        with _outside_of_jobs():
            told = _call("sbatch", str(batch), seconds=SEND_S, keep=keep)
        match = re.search(r"job (\d+)", told)
        if match is None:
            raise SlurmError(f"expected 'job <id>' from sbatch, got {told!r}")
    except SlurmError as error:
        with suppress(SlurmError):
            if array := named([name]).get(name):
                return array
        raise SlurmError(f"sbatch refused the sweep: {error.said}") from error
    return match[1]


def script(count: int, settings: Settings, name: str, *, dependency: str = "") -> str:
    """The batch script that `submit` would send for `count` jobs."""
    return _text(_executor(settings, name, dependency, count))


def _text(executor: Any) -> str:
    return str(executor._make_submission_file_text(executor._submitit_command_str, "sweep"))


def _executor(settings: Settings, name: str, dependency: str, count: int) -> Any:
    from submitit.slurm.slurm import SlurmExecutor

    class Anywhere(SlurmExecutor):
        """May be made without SLURM, to show a script; its absence is told before a submit."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    known = Anywhere._valid_parameters() - set(OURS)
    strange = [
        unknown("option of hydra.launcher", option, known)
        for option in settings.options
        if option not in known
    ]
    if strange:
        raise ConfigError(strange)
    options = _options(settings, name, is_array=count > 1)
    if dependency:
        options["dependency"] = dependency
    executor = Anywhere(settings.folder / LOGS, max_num_timeout=settings.max_requeues)
    executor.update_parameters(**options, job_name=name, comment=settings.folder.name)
    if count > 1:
        executor.parameters["map_count"] = count
    return executor


def _options(settings: Settings, name: str, *, is_array: bool) -> dict[str, Any]:
    """The user's options, with what makes exit codes true and the code that of the snapshot."""
    options: dict[str, Any] = {"time": 60, **settings.options}
    teardown = "; ".join(options.pop("teardown", None) or [])
    # as the last lines of the script they would decide its exit code
    trap = [f"trap {shlex.quote(teardown)} EXIT"] if teardown else []
    # our own part of a job comes from there too: python looks in its folder first
    there = f"cd {shlex.quote(str(settings.code))}"
    fetch = _fetching(settings.folder / LOGS, name, is_array=is_array)
    options["setup"] = [*(options.get("setup") or []), *fetch, CPUS_FOR_SRUN, there, *trap]
    if options.get("use_srun", True):
        ours = ["--kill-on-bad-exit=1", "--open-mode=append"]
        options["srun_args"] = [*(options.get("srun_args") or []), *ours]
    more = dict(options.get("additional_parameters") or {})
    if not {"requeue", "no-requeue", "no_requeue"} & set(more):
        more["requeue" if settings.max_requeues else "no-requeue"] = True
    options["additional_parameters"] = more
    return options


CPUS_FOR_SRUN = '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
"""Since SLURM 22.05 srun does not take them from sbatch: a rank would have one core."""


def _fetching(folder: Path, name: str, *, is_array: bool) -> list[str]:
    """Lines that give a job what it runs, under the name submitit looks for.

    One that comes back from the queue finds what it has left there.
    """
    id_, task = "${SLURM_JOB_ID}", "0"
    if is_array:
        id_, task = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}", "${SLURM_ARRAY_TASK_ID}"
    target = f'{shlex.quote(str(folder))}/"{id_}_submitted.pkl"'
    return [f'[ -e {target} ] || ln -s {shlex.quote(name)}_"{task}".pkl {target}']


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
        return _call(
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
    told = _call("squeue", "--noheader", "--states=all", "--format=%i|%j", wanted)
    day = (datetime.fromisoformat(since) if since else datetime.now()) - timedelta(days=1)
    with suppress(SlurmError):  # no accounting
        told += _call(
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
        told = _call(
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
        _call("sacct", "--allocations", "--noheader", "--format=JobID", "--starttime=now")
    except SlurmError:
        return False
    return True


def cancel(ids: Sequence[str]) -> None:
    """Take jobs out of the queue, running or not."""
    if ids:
        _call("scancel", *ids)


def _call(*command: str, seconds: float = ANSWER_S, keep: Collection[int] = ()) -> str:
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
