"""Turn a function of a configuration into a command with clear faults and true exit codes.

Exit codes: 0 fine; 1 what the task returned, or an unexpected error, with its traceback; 2 a fault
the user can mend, told in a sentence; 130 interrupted. Several jobs of one sweep: the worst.
INTERPLAY_DEBUG=1 or HYDRA_FULL_ERROR=1 shows the traceback of every fault.
"""

import argparse
import functools
import os
import shlex
import sys
import textwrap
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import env_override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from core import overrides
from core.errors import ConfigError, DataError, IncompatibleModel, MissingDependency
from core.targets import allow_targets

Task = Callable[[DictConfig], int | None]

CONFIG = Path(__file__).resolve().parents[1] / "config"

FAILED, FAULT, INTERRUPTED = 1, 2, 130

WIDTH = 100
"""Of a fault that is told again, in characters."""

USER_FAULTS = (
    ConfigError,
    DataError,
    IncompatibleModel,
    MissingDependency,
    OSError,  # the disk, the network: told by the system, mended by the user
    LookupError,
    OmegaConfBaseException,
    YAMLError,
)


def main(config_name: str, *, folder: Path = CONFIG) -> Callable[[Task], Callable[[], None]]:
    """Decorate the function of an entry file; the result reads `sys.argv` and ends the process.

    Args:
        config_name: File in `folder`, without `.yaml`, that holds the defaults.
        folder: Root of the configuration.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def entry() -> None:
            sys.exit(_launch(task, config_name, folder))

        return entry

    return decorate


def report(error: BaseException) -> int:
    """Tell an error on stderr, in a sentence if the user can mend it; return its exit code."""
    is_fault = _is_fault(error)
    if is_fault and not _wants_tracebacks():
        sys.stderr.write(f"{error}\n")
    else:
        traceback.print_exception(error)
    return FAULT if is_fault else FAILED


def _is_fault(error: BaseException) -> bool:
    if isinstance(error, KeyError | IndexError | AttributeError):  # ours, OmegaConf's kinds too
        return False
    return isinstance(error, USER_FAULTS)


def _launch(task: Task, config_name: str, folder: Path) -> int:
    arguments = get_args_parser().parse_intermixed_args()
    given, unreadable = overrides.parse(arguments.overrides)
    jobs = _Jobs(task, trusted=overrides.given(given, "allowed_targets"))
    allow_targets(jobs.trusted)
    line = _Line(arguments, given, unreadable, config_name, folder)
    try:
        line.run(jobs.function)
        sys.stdout.flush()
    except KeyboardInterrupt:
        command = shlex.join(["python", *sys.argv])
        sys.stderr.write(f"\ninterrupted; what is finished is kept, to resume: {command}\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `| head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - told, and turned into the exit code
        return report(error)
    jobs.tell_failures()
    return jobs.exit_code


@dataclass(frozen=True)
class _Line:
    """A command line: what it says, and the configuration it is said about."""

    arguments: argparse.Namespace
    given: list[Override]
    unreadable: list[str]
    config_name: str
    folder: Path

    def run(self, task: Task) -> None:
        """Let Hydra compose and run; a fault of the line is told together with all others."""
        refused = [*self.unreadable, *overrides.refused(self.given, self.folder)]
        if refused:
            raise ConfigError([*refused, *self._faults()])
        start = hydra.main(
            version_base=overrides.VERSION_BASE,
            config_path=str(self.folder),
            config_name=self.config_name,
        )
        try:
            with (
                _arguments(self.arguments.overrides, overrides.spread(self.given)),
                _errors_raised(),
            ):
                start(task)()
        except HydraException as error:
            raise ConfigError(self._faults() or [overrides.first_line(error)]) from error

    def _faults(self) -> list[str]:
        if self.arguments.config_path or self.arguments.config_dir:
            return []  # another configuration: only Hydra knows its files
        name = self.arguments.config_name or self.config_name
        multirun = self.arguments.multirun
        return overrides.find_faults(name, self.folder, self.given, multirun=multirun)


class _Jobs:
    """Runs the task for each job and remembers how each ended; no job stops the next.

    A fault that several jobs have is told once.
    """

    def __init__(self, task: Task, *, trusted: list[str]) -> None:
        self.trusted = trusted
        self._ended: list[tuple[str, int]] = []  # overrides of a job, its exit code
        self._faults: Counter[str] = Counter()  # what was told -> jobs that have it
        # Hydra names the job after the module of the function below the wrapper.
        self.function = functools.wraps(task)(functools.partial(self._run, task))
        # for a launcher whose jobs run in other processes
        vars(self.function)["ended"] = self.ended

    @property
    def exit_code(self) -> int:
        """The worst of all jobs; 0 if none ran in this process."""
        return max((code for _, code in self._ended), default=0)

    def tell_failures(self) -> None:
        """Name the failed jobs of a sweep."""
        failed = [(line, code) for line, code in self._ended if code]
        if failed and len(self._ended) > 1:
            sys.stderr.write(f"{len(failed)} of {len(self._ended)} jobs failed:\n")
            sys.stderr.writelines(f"  exit code {code}: {line}\n" for line, code in failed)
            for fault, count in self._faults.items():
                if count > 1:
                    text = textwrap.shorten(fault, WIDTH, placeholder=" ...")
                    sys.stderr.write(f"told once, a fault of {count} jobs: {text}\n")

    def ended(self, overrides: str, code: int) -> None:
        """Remember how a job ended."""
        self._ended.append((overrides, code))

    def _run(self, task: Task, config: DictConfig) -> int:
        try:
            self._refuse_stored_trust(config)
            code = _exit_code(task(config))
        except Exception as error:  # noqa: BLE001 - told, and turned into the exit code
            code = self._told(error)
        self.ended(shlex.join(HydraConfig.get().overrides.task), code)
        return code

    def _told(self, error: Exception) -> int:
        """Exit code of an error, told unless it is a fault that an earlier job had too."""
        if not _is_fault(error) or _wants_tracebacks():
            return report(error)
        self._faults[str(error)] += 1
        return report(error) if self._faults[str(error)] == 1 else FAULT

    def _refuse_stored_trust(self, config: DictConfig) -> None:
        stored = set(config.get("allowed_targets") or []) - set(self.trusted)
        if stored:
            raise ConfigError(
                [
                    "allowed_targets counts on the command line alone: "
                    f"expected none in a file, got {sorted(stored)}"
                ]
            )


def _exit_code(returned: object) -> int:
    if returned is None:
        return 0
    if type(returned) is not int or not 0 <= returned <= 255:
        raise TypeError(f"expected None or an exit code in [0, 255] from a task, got {returned!r}")
    return returned


def _wants_tracebacks() -> bool:
    asked = os.environ.get("INTERPLAY_DEBUG", os.environ.get("HYDRA_FULL_ERROR", ""))
    return asked not in ("", "0")


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Let Hydra raise its errors instead of printing them and ending the process.

    The user's own wish is kept under our name, so that the jobs of a cluster, which inherit this
    environment, do not mistake ours for it.
    """
    own = {"INTERPLAY_DEBUG": "1" if _wants_tracebacks() else "0", "HYDRA_FULL_ERROR": "1"}
    with env_override(own):
        yield


@contextmanager
def _arguments(typed: list[str], spread: dict[str, str]) -> Iterator[None]:
    """Replace the arguments of the process, which Hydra reads, for a while.

    Hydra wants all overrides in one piece, so `seed=1 -m model=a,b` gets its flags at the end.
    """
    before = sys.argv
    flags = [argument for argument in before[1:] if argument not in typed]
    sys.argv = [before[0], *(spread.get(argument, argument) for argument in typed), *flags]
    try:
        yield
    finally:
        sys.argv = before
