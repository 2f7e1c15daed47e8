"""The code as it was when a sweep started, for jobs that start an hour later."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import write_json
from core.origin import ROOT, SNAPSHOT, files, git_state


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of the code.

    Args:
        folder: Where it is.
        git: Commit of the original, and whether tracked files differed from it.
        left_out: Files of the same folders that git does not track.
    """

    folder: Path
    git: dict[str, Any]
    left_out: list[str]


def take(folder: Path, root: Path = ROOT) -> Snapshot:
    """Copy every file that git tracks, with its uncommitted changes.

    Raises:
        ConfigError: `root` is not in a repository.
    """
    tracked = files(root)
    if tracked is None:
        raise ConfigError(
            [
                f"{root} is no git repository, so nobody knows which files are the code; "
                "hydra.launcher.snapshot=false runs it as it is"
            ]
        )
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir() and not (root / name).is_symlink():
            continue  # a submodule
        shutil.copy2(root / name, folder / name, follow_symlinks=False)
    git = git_state(root)
    write_json(folder / SNAPSHOT, git)
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    untracked = files(root, untracked=True) or []
    return Snapshot(
        folder=folder,
        git=git,
        left_out=[
            name
            for name in untracked
            if name.split("/")[0] in folders and name.endswith((".py", ".yaml"))
        ],
    )
