"""JSON files that hold their own digest, so that a truncation or one flipped byte is noticed."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.files import write_atomically
from store.quarantine import move_aside

HEAD = b'{\n  "sha256": "'
HEX_CHARS = 64


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON with its digest in the first line, atomically.

    Args:
        path: The last of several writers wins, whole.
        value: Not empty; every number in it is finite.

    Raises:
        ValueError: NaN or infinity; the text names the key.
        TypeError: Something JSON has no form for; the text names the key.
    """
    write_atomically(path, sealed(value))


def sealed(value: Mapping[str, Any]) -> bytes:
    """Bytes of the file that holds `value`.

    Example:
        >>> print(sealed({"n": 1}).decode())  # doctest: +ELLIPSIS
        {
          "sha256": "6b1f...",
          "n": 1
        }
        <BLANKLINE>
    """
    for place, leaf in _leaves(value, ""):
        _require_json(place, leaf)
    text = json.dumps(value, indent=2, allow_nan=False)
    body = text.removeprefix("{").encode() + b"\n"
    return HEAD + hashlib.sha256(body).hexdigest().encode() + b'",' + body


def read_sealed(path: Path) -> dict[str, Any] | None:
    """What `write_sealed` wrote, or None where there is no such file.

    A damaged file is named in a warning, moved aside, and then there is none.
    """
    raw = read_text(path)
    return None if raw is None else _value(raw)


def read_text(path: str | Path) -> bytes | None:
    """The same as it lies on disk: JSON of which only the digest was looked at."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
            raw, inode = file.read(), os.fstat(file.fileno()).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not _is_whole(raw):
        move_aside(Path(path), "is damaged: its digest is not that of its content", inode=inode)
        return None
    return raw


def read_folder(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name without `.json`, and content, of every whole file of a folder, in order of the names."""
    for name, raw in read_texts(folder):
        yield name, _value(raw)


def read_texts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The same as it lies on disk; paths are texts, which take a tenth of the time."""
    for name, path in json_files(folder):
        raw = read_text(path)
        if raw is not None:
            yield name, raw


def json_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Name without `.json`, and path, of the files of a folder, in order of the names."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.path) for entry in entries)
    except FileNotFoundError:
        return
    for name, path in found:
        if not name.startswith(".") and name.endswith(".json"):
            yield name.removesuffix(".json"), path


def unsealed(raw: bytes) -> dict[str, Any] | None:
    """Inverse of `sealed`; None where the bytes are not what it made."""
    return _value(raw) if _is_whole(raw) else None


def _is_whole(raw: bytes) -> bool:
    end = len(HEAD) + HEX_CHARS
    body = raw[end + 2 :]
    made = HEAD + hashlib.sha256(body).hexdigest().encode() + b'",'
    return raw[: end + 2] == made


def _value(raw: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(raw)
    del value["sha256"]
    return value


def _leaves(value: object, place: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for position, child in enumerate(value):
            yield from _leaves(child, f"{place}[{position}]")
    else:
        yield place, value


def _require_json(place: str, leaf: object) -> None:
    if isinstance(leaf, float) and not math.isfinite(leaf):
        raise ValueError(f"{place} is {float(leaf)}, expected a finite number: JSON has no other")
    if leaf is not None and not isinstance(leaf, str | int | float):
        raise TypeError(
            f"{place} is a {type(leaf).__name__}, expected a string, number, bool, None, "
            "list or dict"
        )
