"""A small project with our sweeps and a job without torch, in a repository of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.origin import files

LIMIT_S = 600
"""No test waits for a time, and none waits longer than this."""

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "store", "cluster", "hydra_plugins")
GROUPS = ("hydra", "mode", "base")

JOB = """
import os, signal, sys, time
from pathlib import Path
from core.app import main
from store.cells import Cell, read_cell, write_cell
from store.layout import Layout
from store.receipts import ASKED_FOR, write_receipt


def deepest_reason():
    raise ZeroDivisionError("the reason")


@main("job_defaults")
def job(config):
    layout, run = Layout(Path(config.results_dir)), f"{config.model_name}-{config.compressor.name}"
    with (layout.root / f"{run}.started").open("a") as file:
        file.write(f"{VERSION} {time.time()}\\n")
    if config.does == "raise":
        deepest_reason()
    if config.does == "rank" and os.environ["SLURM_PROCID"] == "1":
        deepest_reason()
    if config.does == "lose" and os.environ["SLURM_PROCID"] == "0":
        time.sleep(10_000)
    if config.does in ("die", "lose"):
        os.kill(os.getpid(), signal.SIGKILL)
    if config.does == "again" and read_cell(layout, run, "first") is None:
        first = Cell(measurement="first", key="k", status="done", values={"a": 1.0})
        write_cell(layout, run, first)
        with (layout.root / f"{run}.first").open("a") as file:
            file.write("committed\\n")
        time.sleep(10_000)
    while config.does == "wait" and not (layout.root / "go").exists():
        time.sleep(0.1)
    write_cell(layout, run, Cell(measurement="m", key="k", status="done", values={"a_test_b": 1.0}))
    write_receipt(layout, os.environ[ASKED_FOR], {run: ["m"]}, {})
    with (layout.root / f"{run}.ended").open("a") as file:
        file.write(f"{VERSION} {time.time()}\\n")


VERSION = 1

if __name__ == "__main__":
    job()
"""

DEFAULTS = """
defaults:
  - base: base
  - _self_
  - compressor: none
  - mode: local
model_name: a
does: end
seed: 0
results_dir: results
dry_run: false
trainer: {}
hydra: {help: {header: x}}
"""


def write_config(folder: Path) -> Path:
    """A small configuration with our modes and launchers; returns its folder."""
    for group in GROUPS:
        shutil.copytree(ROOT / "config" / group, folder / group)
    (folder / "compressor").mkdir()
    for name in ("none", "level", "fpgm"):
        (folder / "compressor" / f"{name}.yaml").write_text(f"name: {name}\n")
    (folder / "job_defaults.yaml").write_text(DEFAULTS)
    return folder


class Project:
    """A repository of its own with an entry file, its results, and what a person types there."""

    entry = "evaluate.py"

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.results = folder / "project", folder / "results"
        self.environment = environment or {}
        self.results.mkdir()
        self.fill()
        author = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=self.folder, check=True)

    def fill(self) -> None:
        """Copy this project, with the new files that are not committed yet."""
        for name in [*(files(ROOT) or []), *(files(ROOT, untracked=True) or [])]:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.folder / name, follow_symlinks=False)

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        """`python <entry> <overrides>`."""
        line = [sys.executable, self.entry, f"results_dir={self.results}", *overrides]
        return self._popen(line)

    def typed(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        return _ended(self.start(*overrides))

    def cluster(self, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        """`python -m cluster <verb>` of the newest sweep, by its id."""
        line = [sys.executable, "-m", "cluster", verb, self.sweeps()[-1].name, *more]
        return _ended(self._popen([*line, f"--results-dir={self.results}"]))

    def sweeps(self) -> list[Path]:
        """Folders of the sweeps, the oldest first."""
        return sorted((self.results / "sweeps").glob("*"))

    def _popen(self, line: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            line,
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "200", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell lets what it runs in the background ignore interrupts; these tests send some
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


class SmallApp(Project):
    """Our sweeps and a job without torch."""

    entry = "job.py"

    def fill(self) -> None:
        """Copy the packages that sweeps are made of."""
        for name in PACKAGES:
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignore)
        write_config(self.folder / "config")
        (self.folder / "job.py").write_text(JOB)
        (self.folder / ".gitignore").write_text("__pycache__/\n")

    def starts(self) -> dict[str, int]:
        """Run -> how often it was started."""
        found = self.results.glob("*.started")
        return {path.stem: len(path.read_text().splitlines()) for path in sorted(found)}

    def times(self, kind: str) -> dict[str, float]:
        """Run -> when it last started or ended."""
        found = self.results.glob(f"*.{kind}")
        return {path.stem: float(path.read_text().split()[-1]) for path in found}

    def go(self) -> None:
        """Let the jobs that wait go on."""
        (self.results / "go").touch()


def _ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, errors = process.communicate(timeout=LIMIT_S)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def until(ready: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
