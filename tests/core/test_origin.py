import json
import subprocess
from pathlib import Path

import pytest

from core.origin import SNAPSHOT, code_digest, files, git_state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "core").mkdir(parents=True)
    (folder / "core" / "a.py").write_text("a = 1\n")
    (folder / "core" / "link").symlink_to("a.py")
    (folder / "tests").mkdir()
    (folder / "tests" / "t.py").write_text("")
    (folder / ".gitignore").write_text("ignored/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return answer.stdout.strip()


def test_the_commit_and_what_differs_from_it(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert git_state(repository) == {"git_hash": head, "git_dirty": False}
    (repository / "core" / "a.py").write_text("a = 2\n")
    assert git_state(repository) == {"git_hash": head, "git_dirty": True}


def test_a_snapshot_inside_a_repository_is_not_taken_for_it(repository: Path) -> None:
    copy = repository / "ignored" / "snapshot"
    copy.mkdir(parents=True)
    kept = {"git_hash": "of then", "git_dirty": True}
    (copy / SNAPSHOT).write_text(json.dumps(kept))
    assert git_state(copy) == kept


def test_outside_of_a_repository_nobody_knows(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"git_hash": None, "git_dirty": None}
    assert (files(tmp_path), code_digest(tmp_path)) == (None, None)


def test_deleted_files_are_not_listed(repository: Path) -> None:
    (repository / "core" / "a.py").unlink()
    assert files(repository) == [".gitignore", "core/link", "tests/t.py"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("core/a.py", True),
        ("core/new.py", True),
        ("tests/t.py", False),
        ("core/README.md", False),
        ("ignored/x.py", False),
        ("results/x.yaml", False),
    ],
)
def test_only_code_changes_the_digest(name: str, changes: bool, repository: Path) -> None:
    before = code_digest(repository)
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_text("edited\n")
    assert (code_digest(repository) != before) == changes
