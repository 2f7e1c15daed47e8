"""What a person who clones the project types first."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r'([a-z0-9-]+)==([0-9.]+); python_version >= "3\.11"')
CHOSEN_BY_PIP = {"torch", "torchvision"}  # a pair that fits, for this machine


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found)
    return {match[1]: match[2] for match in found if match}


def direct_dependencies() -> set[str]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {re.split(r"[<>=!~]", one)[0].strip() for one in asked}


def test_every_direct_dependency_is_pinned_but_torch() -> None:
    assert set(pins()) == direct_dependencies() - CHOSEN_BY_PIP


def test_commits_are_formatted_with_the_version_the_tests_ran_with() -> None:
    hooks = OmegaConf.load(ROOT / ".pre-commit-config.yaml")
    assert hooks.repos[0].rev == f"v{pins()['ruff']}"
    assert [hook.id for repository in hooks.repos for hook in repository.hooks] == [
        "ruff-check",
        "ruff-format",
        "end-of-file-fixer",
        "check-added-large-files",
    ]


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that `make` looks at."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", *arguments]  # as typed, not as a part of the `make test` that runs this
    return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)


def python_that(folder: Path, script: str) -> Path:
    """A `python3` that does what `script` says."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@needs_make
def test_make_alone_lists_the_targets(folder: Path) -> None:
    targets = [line.split()[1] for line in make(folder).stdout.splitlines()]
    assert set(targets) == {"help", "demo", "test", "test-slow", "check", "bench", "venv"}


@needs_make
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('case "$1" in --version) echo Python 3.9.1;; *) exit 1;; esac', "got Python 3.9.1"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "sudo apt install python3-venv"),
    ],
    ids=["too old", "without venv"],
)
def test_a_python_that_will_not_do_says_what_to_do(folder: Path, script: str, told: str) -> None:
    ended = make(folder, "venv", f"PYTHON={python_that(folder, script)}")
    assert ended.returncode != 0
    assert told in ended.stderr
    assert not (folder / ".venv").exists()


@needs_make
@pytest.mark.parametrize(
    ("changed", "installs"),
    [
        ("README.md", False),
        ("pyproject.toml", True),
        ("requirements.txt", True),
        ("setup.py", True),
    ],
)
def test_a_changed_description_installs_again(folder: Path, changed: str, installs: bool) -> None:
    stamp = folder / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    now = stamp.stat().st_mtime
    (folder / changed).touch()
    for path in folder.iterdir():
        os.utime(path, (now - 10, now - 10))
    os.utime(folder / changed, (now + 10, now + 10))
    assert ("-m pip install" in make(folder, "--dry-run", "test").stdout) == installs
