"""Checkpoints behind a URL: fetched once, then a file like any other."""

import shutil
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from core.cache import cache_dir
from core.digest import digest
from core.errors import DataError
from core.files import private_name

SCHEMES = ("http", "https", "file")

TIMEOUT_SECONDS = 60.0
"""Without a byte for this long, a connection counts as dead."""


def is_url(source: str) -> bool:
    """Whether a checkpoint is named by an address.

    Example:
        >>> is_url("https://example.org/a.pt"), is_url("weights/a.pt")
        (True, False)
    """
    return "://" in source


def fetch(url: str) -> Path:
    """Path of the file behind `url`, downloaded unless it was before.

    Raises:
        DataError: It cannot be had; nothing half-fetched stays.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise DataError(f"a checkpoint's address starts with {', '.join(SCHEMES)}, got {url!r}")
    name = PurePosixPath(parts.path).name or "checkpoint"
    target = cache_dir() / "checkpoints" / digest(url) / name
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = private_name(target)
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response,
            partial.open("wb") as file,
        ):
            shutil.copyfileobj(response, file)
            _require_whole(url, response.headers.get("Content-Length"), file.tell())
        partial.replace(target)
    except OSError as error:  # urllib's errors and timeouts are OSErrors
        raise DataError(
            f"cannot download the checkpoint {url}: {error}; "
            "fetch it by another way and pass model.checkpoint=PATH"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _require_whole(url: str, promised: str | None, received: int) -> None:
    if promised is not None and int(promised) != received:
        raise DataError(f"expected {promised} bytes from {url}, got {received}; try again")
