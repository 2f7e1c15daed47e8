"""Which code this is: its commit, the files it consists of, and one digest of them all."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.digest import digest, file_digest

ROOT = Path(__file__).resolve().parents[1]

SNAPSHOT = "snapshot.json"
"""In a copy of the code that a sweep made: the git state of the original at that moment."""

NO_PART = ("tests/", "docs/", "dev/", "benchmarks/", "sweeps/", ".github/")
"""Folders that never change a result."""


def git_state(root: Path = ROOT) -> dict[str, Any]:
    """Commit of the code and whether tracked files differ from it; None where nobody knows."""
    copied = root / SNAPSHOT
    if copied.exists():
        kept = json.loads(copied.read_text())
        return {key: kept[key] for key in ("git_hash", "git_dirty")}
    status = git(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "git_hash": git(root, "rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
    }


def git(root: Path, *arguments: str) -> str | None:
    """Answer of git, or None outside a repository or without git."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def files(root: Path, *, untracked: bool = False) -> list[str] | None:
    """Paths below `root` that git tracks, or does not track and not ignore; None without git."""
    kind = ("--others", "--exclude-standard") if untracked else ("--cached",)
    listed = git(root, "ls-files", "-z", *kind)
    if listed is None:
        return None
    return sorted({name for name in listed.split("\0") if os.path.lexists(root / name) and name})


def code_digest(root: Path = ROOT) -> str | None:
    """Digest of everything that can change a result, uncommitted files included; None without git.

    Example:
        >>> code_digest() == code_digest()
        True
    """
    tracked, others = files(root), files(root, untracked=True)
    if tracked is None or others is None:
        return None
    folders = {name.split("/")[0] for name in tracked}  # else a folder of results, say
    ours = [name for name in others if name.split("/")[0] in folders]
    return digest(dict(_contents(root, [*tracked, *ours])))


def _contents(root: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        path = root / name
        if name.startswith(NO_PART) or name.endswith(".md"):
            continue
        if path.is_symlink():
            yield name, str(path.readlink())
        elif path.is_file():
            yield name, file_digest(path)
