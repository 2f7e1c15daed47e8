"""One process at a time: locks that end with whoever holds them, however that is."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.errors import ConfigError
from core.files import this_host


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, for the moment that reading, changing and writing a file takes."""
    with _opened(path) as file:
        _lock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def claimed(path: Path, what: str, follow: str) -> Iterator[int]:
    """Hold a lock that nobody waits for; gives its descriptor, for children that keep it too.

    Args:
        path: File of the lock; it stays, and says who holds it.
        what: Starts the sentence: `the same sweep`.
        follow: Command that another may type instead, kept for it.

    Raises:
        ConfigError: Another process holds it; the text says which.
    """
    with _opened(path) as file:
        try:
            _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise ConfigError([f"{what} is being started or run by {owner}"]) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {this_host()}: {follow}\n")
        file.flush()
        yield file.fileno()


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        yield file


def _lock(file: IO[str], how: int) -> None:
    """Take a lock; a file system that has none is told, and the caller goes on without."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError as error:
        sys.stderr.write(f"{file.name} cannot be locked ({error}): start a sweep only once\n")
