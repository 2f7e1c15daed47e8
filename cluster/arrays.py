"""Arrays of jobs: the script that SLURM gets, and what its jobs fetch."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import slurm
from cluster.command import Command
from cluster.progress import LOGS
from cluster.slurm import SlurmError
from core.errors import ConfigError, unknown

OURS = ("job_name", "comment", "stderr_to_stdout")
"""Options of submitit that a sweep sets itself."""

SEND_S = 600
"""The same for sbatch, which tries again by itself while the controller is busy."""


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
        with slurm.outside_of_jobs():
            told = slurm.call("sbatch", str(batch), seconds=SEND_S, keep=keep)
        match = re.search(r"job (\d+)", told)
        if match is None:
            raise SlurmError(f"expected 'job <id>' from sbatch, got {told!r}")
    except SlurmError as error:
        with suppress(SlurmError):
            if array := slurm.named([name]).get(name):
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
