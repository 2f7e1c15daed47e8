"""Writing files so that a reader sees the old one or the new one, never half; leftovers removed."""

import json
import os
import re
import shutil
import socket
import threading
from contextlib import suppress
from pathlib import Path


def this_host() -> str:
    """Name of the place where this process's id is unique: the host, and on Linux its container.

    Containers may share a host's name and a results folder while each counts its own processes.
    """
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return socket.gethostname()  # not Linux
    return f"{socket.gethostname()}.{namespace}"


def private_name(path: Path) -> Path:
    """A sibling of `path` that no other process or thread writes to."""
    owner = f"{this_host()}-{os.getpid()}-{threading.get_ident()}"
    return path.with_name(f".{path.name}.{owner}.partial")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write, flush to disk, then rename; the last of several writers wins, whole.

    Raises:
        OSError: The disk is full or not writable; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = private_name(path)
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_atomically(path, text + "\n")


def remove_leftovers(folder: Path, *, name: str = "", suffix: str = "partial") -> None:
    """Delete what killed processes of this host have left half-written in `folder`.

    Args:
        folder: Searched itself, not its folders.
        name: What the leftover would have become; by default anything.
        suffix: Of its private name.
    """
    wanted = re.escape(name) + ".*" if name else ".+"
    leftover = re.compile(rf"\.{wanted}\.{re.escape(this_host())}-(\d+)-\d+\.{suffix}")
    try:
        with os.scandir(folder) as entries:
            found = [(entry, leftover.fullmatch(entry.name)) for entry in entries]
    except FileNotFoundError:
        return
    for entry, match in found:
        if match and not _alive(int(match[1])):
            remove(Path(entry.path))


def remove(path: Path) -> None:
    """Delete a file or folder of which another process may be deleting parts too."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError):
        path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
