"""The manifest of a sweep: everything another terminal, on another day, needs to know."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cluster.locks import held
from core.errors import ConfigError, unknown
from store.layout import Layout
from store.sealed import read_sealed, write_sealed

NAME = "manifest.json"
LOCK = "manifest.lock"

State = str
WAITING, PENDING, RUNNING = "waiting", "pending", "running"
DONE, FAILED, CANCELLED, COMMITTED = "done", "failed", "cancelled", "committed"
ENDED = (DONE, FAILED, CANCELLED, COMMITTED)
"""States that do not change any more; `committed` was so before the sweep started."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One job as the manifest keeps it.

    Args:
        id: Of the job, within the sweep it was started by.
        overrides: Its command line.
        wave: Order of the start.
        state: When it was last looked at.
        sent_as: Name under which it is submitted, `NAME` or `NAME_3` in an array; known to SLURM,
            and written before SLURM hears of it.
        slurm: Job id of SLURM, `12` or `12_3`; None before it is known and without SLURM.
        folder: Of the sweep that started it: an earlier one where it was still in the queue.
        reason: Why it failed, in a sentence.
        missing_since: When SLURM was first found not to know it, seconds since the epoch.
    """

    id: str
    overrides: list[str]
    wave: int
    state: State = WAITING
    sent_as: str = ""
    slurm: str | None = None
    folder: str = ""
    reason: str = ""
    missing_since: float | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A sweep on disk.

    Args:
        folder: `results/sweeps/<id>`.
        digest: The same for every start of the same sweep.
        launcher: `slurm` or `processes`.
        command: As typed.
        cwd: Folder it was typed in.
        started: UTC, ISO 8601.
        host: Machine and container of the process that started it.
        pid: Of that process.
        git: Commit of the code and whether tracked files differ from it.
        code: Folder of the code that the jobs run.
        options: Of the launcher.
        token: Of this start of the sweep and of no other.
        jobs: In the order of the command.
    """

    folder: str
    digest: str
    launcher: str
    command: list[str]
    cwd: str
    started: str
    host: str
    pid: int
    git: dict[str, Any]
    code: str
    options: dict[str, Any] = field(default_factory=dict)
    token: str = ""
    jobs: list[Entry] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Of the file."""
        return Path(self.folder) / NAME

    @property
    def id(self) -> str:
        """Name of the folder."""
        return Path(self.folder).name

    @property
    def waiting(self) -> list[Entry]:
        """Jobs to start."""
        return [job for job in self.jobs if job.state == WAITING]

    @property
    def waves(self) -> list[list[Entry]]:
        """The same, those that make baselines first."""
        numbers = sorted({job.wave for job in self.waiting})
        return [[job for job in self.waiting if job.wave == number] for number in numbers]

    def with_jobs(self, changed: dict[str, Entry]) -> "Manifest":
        """With some jobs replaced, by id."""
        return replace(self, jobs=[changed.get(job.id, job) for job in self.jobs])


def create(manifest: Manifest) -> None:
    """Write the manifest of a new sweep.

    Raises:
        ConfigError: Its folder holds a sweep already.
    """
    with held(manifest.path.with_name(LOCK)):
        if manifest.path.exists():
            raise ConfigError([f"{manifest.folder} holds a sweep; set another hydra.sweep.dir"])
        write(manifest)


def update(path: Path, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Change what is stored, whoever else changes it too; returns what is stored then."""
    with held(path.with_name(LOCK)):
        stored = read(path)
        changed = change(stored)
        if changed != stored:
            write(changed)
    return changed


def write(manifest: Manifest) -> None:
    """Write it whole, atomically; what another has written since it was read is lost."""
    write_sealed(manifest.path, asdict(manifest))


def read(path: Path) -> Manifest:
    """Read a manifest, its folder, or the file.

    Raises:
        FileNotFoundError: There is none, or it was damaged.
    """
    file = (path / NAME if path.is_dir() else path).absolute()
    stored = read_sealed(file)
    if stored is None:
        raise FileNotFoundError(f"there is no manifest of a sweep at {file}")
    jobs = [Entry(**_known(Entry, job)) for job in stored["jobs"]]
    return Manifest(**{**_known(Manifest, stored), "jobs": jobs, "folder": str(file.parent)})


def find(name: str, layout: Layout) -> Path:
    """File of a manifest from its path, its folder, or the id of a sweep in the results folder.

    Raises:
        LookupError: There is no such sweep; the text names the nearest.
    """
    for path in (Path(name), layout.sweeps / name):
        file = path / NAME if path.is_dir() else path
        if file.is_file():
            return file
    known = [path.parent.name for path in layout.sweeps.glob(f"*/{NAME}")]
    raise LookupError(f"{unknown('sweep', name, known)}, in {layout.root} (--results-dir)")


def earlier(layout: Layout, digest: str) -> Iterator[Manifest]:
    """Starts of the same sweep, the newest first."""
    for path in sorted(layout.sweeps.glob(f"*/{NAME}"), reverse=True):
        stored = read_sealed(path)
        if stored is not None and stored["digest"] == digest:
            yield read(path)


def _known(kind: type, stored: dict[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {key: value for key, value in stored.items() if key in names}
