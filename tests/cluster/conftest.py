import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from cluster import launch
from cluster.manifest import Entry, Manifest
from cluster.progress import Progress
from core import targets
from core.app import main
from core.files import this_host
from tests.cluster.real_slurm import NoSlurmError, RealSlurm
from tests.cluster.small_app import write_config

BY_NAME = """case "$*" in *--name=*)
  for each in named.*; do case ",${*##*--name=}," in *",$(cat $each),"*)
    sed -n "s/^\\(${each#named.}[^|]*\\)|.*/\\1|$(cat $each)/p" FILE;;
  esac; done; exit;;
esac; cat FILE"""
"""Lists the jobs of FILE, or those that were sent under a name."""

ANSWERS = {
    "sbatch": 'n=$(cat next); echo $((n + 1)) > next; cp "$1" sent.$n; '
    'sed -n "s/^#SBATCH --job-name=//p" "$1" > named.$n; echo "Submitted job $n"',
    "squeue": BY_NAME.replace("FILE", "queue"),
    "sacct": BY_NAME.replace("FILE", "accounts"),
    "scancel": 'echo "$@" >> cancelled',
    "srun": "exit 0",
}


class FakeSlurm:
    """Answers sbatch, squeue, sacct and scancel with what a test has put into its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, script in ANSWERS.items():
            path = folder / name
            path.write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
            path.chmod(0o755)
        (folder / "next").write_text("100\n")
        self.says()

    def says(self, queue: str = "", accounts: str | None = "") -> None:
        """What squeue and sacct print; None: the cluster has no accounting."""
        (self.folder / "queue").write_text(queue)
        (self.folder / "accounts").unlink(missing_ok=True)
        if accounts is not None:
            (self.folder / "accounts").write_text(accounts)

    @property
    def scripts(self) -> list[str]:
        """What was sent, in order."""
        return [path.read_text() for path in sorted(self.folder.glob("sent.*"))]

    @property
    def cancelled(self) -> list[str]:
        """Job ids that were cancelled."""
        path = self.folder / "cancelled"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """Environment in which `sbatch` and its kin find a real cluster."""
    cluster = RealSlurm(Path(tempfile.mkdtemp(prefix="slurm-")) / "s")  # sockets have short names
    try:
        try:
            cluster.start()
        except NoSlurmError as reason:
            pytest.skip(str(reason))
        yield {**cluster.environment, "OMP_NUM_THREADS": "1"}
    finally:
        cluster.stop()
        cluster.root.parent.rmdir()


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Manifest]:
    """Makes a manifest of some jobs: `sweep(Entry(id="0", ...), pid=1)`."""
    folder = tmp_path / "results" / "sweeps" / "one"
    folder.mkdir(parents=True)

    def make(*jobs: Entry, **known: object) -> Manifest:
        values = {
            "folder": str(folder),
            "digest": "d",
            "launcher": "slurm",
            "command": ["python", "evaluate.py"],
            "cwd": str(tmp_path),
            "started": "2026-01-01T00:00:00+00:00",
            "host": this_host(),
            "pid": os.getpid(),
            "git": {},
            "code": "",
            **known,
        }
        return Manifest(jobs=list(jobs), **values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def told(sweep: Callable[..., Manifest]) -> Callable[..., None]:
    """Writes what a rank told: `told("0", exit_code=1, tail=["x"])`."""

    def write(job: str, exit_code: int | None = None, **more: object) -> None:
        started = Progress(job=job, started=10.0, exit_code=exit_code, **more)  # type: ignore[arg-type]
        started.write(Path(sweep().folder))

    return write


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Exit code of `python job.py <overrides>` with a task that a test gives."""
    config = write_config(tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(targets, "_extra_prefixes", set())
    monkeypatch.setattr(launch, "code_digest", lambda: "code")

    def call(task: Callable[[DictConfig], int | None], *line: str) -> int:
        quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none")
        monkeypatch.setattr(sys, "argv", ["job.py", *line, *quiet])
        with pytest.raises(SystemExit) as ended:
            main("job_defaults", folder=config)(task)()
        return int(ended.value.code or 0)

    return call
