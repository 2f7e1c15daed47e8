import os
import stat
from pathlib import Path

import pytest

from cluster.snapshot import take
from core.errors import ConfigError
from core.origin import git_state
from tests.core.test_origin import repository

__all__ = ["repository"]


def test_a_snapshot_is_the_tracked_files_as_they_are_now(repository: Path, tmp_path: Path) -> None:
    (repository / "core" / "a.py").write_text("a = 'uncommitted'\n")
    (repository / "core" / "a.py").chmod(0o755)
    (repository / "core" / "untracked.yaml").write_text("")
    taken = take(tmp_path / "copy", repository)
    copied = sorted(str(path.relative_to(taken.folder)) for path in taken.folder.rglob("*.py"))
    assert copied == ["core/a.py", "tests/t.py"]
    assert (taken.folder / "core" / "a.py").read_text() == "a = 'uncommitted'\n"
    assert (taken.folder / "core" / "a.py").stat().st_mode & stat.S_IXUSR
    assert os.readlink(taken.folder / "core" / "link") == "a.py"  # noqa: PTH115 - the text
    assert taken.left_out == ["core/untracked.yaml"]


def test_a_snapshot_remembers_the_commit_of_its_moment(repository: Path, tmp_path: Path) -> None:
    (repository / "core" / "a.py").write_text("a = 2\n")
    then = git_state(repository)
    taken = take(repository / "ignored" / "copy", repository)
    (repository / "core" / "a.py").write_text("a = 1\n")
    assert git_state(taken.folder) == taken.git == then
    assert then["git_dirty"]


def test_without_a_repository_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher.snapshot=false"):
        take(tmp_path / "copy", tmp_path)
