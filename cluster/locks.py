"""One process at a time: locks that end with whoever holds them, however that is."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from core.errors import ConfigError
from core.files import this_host

WAIT_S, EVERY_S = 60.0, 0.02
"""Longest wait for what takes others a moment, and how often to try."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for a lock, for the moment that reading, changing and writing a file takes.

    Raises:
        TimeoutError: Another process does not give it back.
    """
    end = time.monotonic() + WAIT_S
    with _opened(path) as file:
        while not _is_locked(file):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{path} has been locked by another process for {WAIT_S:g} s: is one stopped?"
                )
            time.sleep(EVERY_S)
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
        if not _is_locked(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise ConfigError([f"{what} is being started or run by {owner}"])
        file.truncate(0)
        file.write(f"process {os.getpid()} on {this_host()}: {follow}\n")
        file.flush()
        yield file.fileno()


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        yield file


def _is_locked(file: IO[str]) -> bool:
    """Try to take a lock; a file system that has none is told, and the caller goes on without."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _tell_once(str(error))
    return True


@cache
def _tell_once(error: str) -> None:
    sys.stderr.write(f"files cannot be locked here ({error}): start a sweep only once\n")
