"""Damaged files: named, moved aside, and from then on absent."""

import warnings
from itertools import count
from pathlib import Path

from store.layout import CORRUPT


class CorruptFileWarning(UserWarning):
    """A file of the store was damaged or unfinished; it is redone, never used."""


def move_aside(path: Path, why: str, *, inode: int) -> None:
    """Rename a damaged file or folder to `<name>.corrupt-<n>` and warn.

    Args:
        path: The damaged file or folder.
        why: What is wrong with it, as the end of a sentence that starts with the path.
        inode: Inode of what was found damaged: a good one that another writer has put in its
            place meanwhile stays.
    """
    try:
        if path.stat().st_ino != inode:
            return
        fate = f"moved aside to {_renamed(path).name}"
    except FileNotFoundError:
        return  # another reader was faster, and has warned
    except OSError as error:
        fate = f"could not be moved aside ({error.strerror}), so it is ignored"
    warnings.warn(f"{path} {why}; {fate}", CorruptFileWarning, stacklevel=3)


def _renamed(path: Path) -> Path:
    for number in count():
        target = path.with_name(f"{path.name}{CORRUPT}{number}")
        if not target.exists():
            return path.rename(target)
    raise AssertionError("count() ends never")
