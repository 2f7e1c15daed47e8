"""Fetching what a publisher offers: checked before it gets its name, never half there."""

import hashlib
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from core.errors import DataError
from core.files import private_name, write_atomically

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60.0
"""Without a byte for this long, a connection counts as dead."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file that a publisher offers.

    Args:
        url: Where it is.
        checksum: Hex digest of the file.
        algorithm: Of the checksum; publishers of old datasets give md5.
        members: Paths inside a tar archive that are wanted; () = the file itself is wanted.
        folder: Sub-folder of the dataset's root that receives a file which is no archive.
    """

    url: str
    checksum: str
    algorithm: Literal["md5", "sha256"] = "md5"
    members: tuple[str, ...] = ()
    folder: str = ""

    @property
    def file_name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(self.url).name

    def fetch(self, root: Path) -> None:
        """Download, check, and put the wanted files below `root`.

        Raises:
            DataError: The checksum is wrong, or a wanted member is not in the archive.
            OSError: The address cannot be reached, or the disk is full.
        """
        target = root / self.folder / self.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = private_name(target)
        try:
            self._receive(partial)
            if self.members:
                self._unpack(partial, root)
            else:
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def _receive(self, partial: Path) -> None:
        hasher = hashlib.new(self.algorithm, usedforsecurity=False)
        try:
            with (
                urllib.request.urlopen(self.url, timeout=TIMEOUT_SECONDS) as response,
                partial.open("wb") as file,
                _progress() as progress,
            ):
                size = response.headers.get("Content-Length")
                bar = progress.add_task(self.file_name, total=int(size) if size else None)
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    hasher.update(chunk)
                    progress.update(bar, advance=len(chunk))
        except urllib.error.URLError as error:
            raise ConnectionError(
                f"cannot download {self.url}: {error.reason}; fetch it by another way, "
                "put it where the dataset's root is, and unpack it there"
            ) from error
        if hasher.hexdigest() != self.checksum:
            raise DataError(
                f"expected {self.algorithm} {self.checksum} for {self.url}, "
                f"got {hasher.hexdigest()} ({partial.stat().st_size} bytes); nothing was kept"
            )

    def _unpack(self, archive: Path, root: Path) -> None:
        """Write the wanted members only, so that no other name in the archive matters."""
        with tarfile.open(archive) as tar:
            for member in self.members:
                try:
                    content = tar.extractfile(member)
                except KeyError:
                    content = None
                if content is None:
                    raise DataError(f"expected {member} in {self.url}, found no such file")
                with content:
                    write_atomically(root / member, content.read())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
