"""What every writer of the store shares: leftovers removed, a full disk told clearly."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.files import remove as remove
from core.files import remove_leftovers as remove_leftovers

FULL = {errno.ENOSPC, errno.EDQUOT}
BROKEN = {errno.EROFS, errno.EIO}


def is_of_the_disk(error: BaseException) -> bool:
    """Whether nothing can be written after this error, whatever raised it."""
    return isinstance(error, OSError) and error.errno in FULL | BROKEN


@contextmanager
def full_disk_told(root: Path) -> Iterator[None]:
    """Turn "no space left on device" into a sentence that names the store.

    Raises:
        OSError: With the same `errno`.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            "the disk of the results store is full: free space there or set results_dir to "
            "another disk, then start the same command again; what was committed is kept",
            str(root),
        ) from error


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, so that a rename survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
