"""The digest of what a dataset is: its files by content, whatever their dates and place.

Hashing 50,000 images takes a minute; asking the file system whether they changed takes a moment.
So the hash of a file is remembered, together with its size, time of change and inode, in one small
file per dataset folder that may be deleted at any time.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from core.cache import cache_dir
from core.digest import digest, file_digest
from core.files import write_atomically

log = logging.getLogger(__name__)

CACHE_VERSION = 1
SETTLED_NS = 2_000_000_000
"""A file changed twice within the clock step of its file system keeps its time; hashes of files
that changed less than this before the hashing are not remembered."""

Known: TypeAlias = dict[str, list[Any]]  # relative path -> [size, mtime_ns, inode, hash]


def files_manifest(
    folder: Path, names: Sequence[str], *, identity: dict[str, Any], verify: bool = False
) -> str:
    """Digest of files by relative path, size and content, and of how they are read.

    Args:
        folder: Where the files are; its own name and place do not matter.
        names: Their paths below it, with forward slashes, in any order.
        identity: JSON of everything else that decides samples and labels.
        verify: Hash every file again instead of trusting its size, time of change and inode.

    Raises:
        OSError: A file is gone or cannot be read.
    """
    hashes = content_hashes(folder, names, verify=verify)
    rows = [[name, hashes[name][0], hashes[name][1]] for name in sorted(names)]
    return digest({"identity": identity, "files": rows})


def content_hashes(
    folder: Path, names: Sequence[str], *, verify: bool = False
) -> dict[str, tuple[int, str]]:
    """Size in bytes and content hash of each file, hashed only where it may have changed."""
    place = folder.resolve()
    cache = cache_dir() / "hashes" / f"{digest(str(place))}.json"
    known = _read(cache)
    stamps = {name: _stamp(f"{place}/{name}") for name in names}
    trusted = set() if verify else {name for name in names if _same(known, name, stamps[name])}
    asked = [name for name in dict.fromkeys(names) if name not in trusted]
    if asked:
        started = time.time_ns()
        fresh = dict(zip(asked, _hash_all(place, asked), strict=True))
        known.update({name: [*stamps[name], fresh[name]] for name in asked})
        settled = {name for name in asked if stamps[name][1] < started - SETTLED_NS}
        keep = {name: row for name, row in known.items() if name not in fresh or name in settled}
        _write(cache, keep)
    return {name: (stamps[name][0], known[name][3]) for name in names}


def _stamp(path: str) -> list[int]:
    """Size, time of change in ns, inode."""
    found = os.stat(path)  # noqa: PTH116 - a Path a file doubles the time for 50,000 files
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def _same(known: Known, name: str, stamp: list[int]) -> bool:
    return name in known and known[name][:3] == stamp


def _hash_all(folder: Path, names: Iterable[str]) -> list[str]:
    """Threads, because hashing and reading both run outside the interpreter lock."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda name: file_digest(folder / name), names))


def _read(cache: Path) -> Known:
    """What is remembered; nothing where the file is absent or damaged."""
    try:
        stored = json.loads(cache.read_bytes())
        if stored["version"] != CACHE_VERSION or not all(map(_is_row, stored["files"].values())):
            raise ValueError("it has another form")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%s); every file is hashed again", cache, error)
        return {}
    files: Known = stored["files"]
    return files


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 4 and isinstance(row[3], str)


def _write(cache: Path, known: Known) -> None:
    """Remember for the next time; a full or read-only disk costs time, not the result."""
    text = json.dumps({"version": CACHE_VERSION, "files": known}, separators=(",", ":"))
    try:
        write_atomically(cache, text)
    except OSError as error:
        log.warning("content hashes are not remembered: %s", error)
