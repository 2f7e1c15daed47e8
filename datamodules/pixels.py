"""A file of decoded and resized pixels, so that a sweep decodes a dataset once.

The folder's name is the digest of everything that decides the pixels. It appears whole, by one
rename, or not at all, and may be deleted at any time.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from core.cache import cache_dir
from core.digest import digest
from core.errors import DataError
from core.files import private_name, write_json
from core.preprocessing import Preprocessing
from datamodules.decoding import DecodeError, decoder_version
from datamodules.samples import ArrayDataset, Source

log = logging.getLogger(__name__)

CACHE_VERSION = 1
PIXELS, FAILURES = "pixels.npy", "failures.json"
CHUNK = 64  # images a worker hands over at once: 10 MB at 224 x 224
ABANDONED_SECONDS = 86_400  # a killed process leaves its unfinished folder behind

Decoded: TypeAlias = tuple[np.ndarray | None, tuple[str, str] | None]


class CachedPixels(ArrayDataset):
    """Pixels in a memory-mapped file; a worker process opens the file instead of copying it."""

    def __init__(self, folder: Path, labels: np.ndarray) -> None:
        stored = json.loads((folder / FAILURES).read_bytes())
        pixels = np.load(folder / PIXELS, mmap_mode="r")
        failures = {int(i): (path, reason) for i, (path, reason) in stored.items()}
        super().__init__(pixels, labels, failures=failures)
        self.folder = folder

    def __reduce__(self) -> tuple[type, tuple[Path, np.ndarray]]:
        return CachedPixels, (self.folder, self.labels)


def cached_dataset(
    source: Source,
    preprocessing: Preprocessing,
    *,
    manifest: Callable[[], str],
    workers: int = 0,
) -> ArrayDataset:
    """Dataset over the cache file, which is made first where it is not there.

    Args:
        source: The samples.
        preprocessing: Must name a size.
        manifest: Digest of the files as they are now; asked before and after decoding.
        workers: Processes that decode; 0 = this one.

    Raises:
        DataError: The files changed while they were decoded.
    """
    if preprocessing.size is None:
        raise ValueError("expected a size to cache pixels in, got preprocessing.size=None")
    key = manifest()
    folder = cache_dir() / "pixels" / cache_key(key, preprocessing)
    shape = (len(source), source.channels, *preprocessing.size)
    found = _open(folder, source.labels, shape)
    if found is not None:
        return found
    _build(
        folder, source, preprocessing, shape=shape, workers=workers, same=lambda: manifest() == key
    )
    made = _open(folder, source.labels, shape)
    if made is None:
        raise DataError(
            f"expected the pixel cache just written in {folder}, found none; start again"
        )
    return made


def cache_key(manifest: str, preprocessing: Preprocessing) -> str:
    """Digest of all that decides the pixels: files, size, crop, filter and decoder."""
    return digest(
        {
            "version": CACHE_VERSION,
            "manifest": manifest,
            "size": preprocessing.size,
            "crop": preprocessing.crop,
            "interpolation": preprocessing.interpolation,
            "decoder": decoder_version(),
        }
    )


def _open(folder: Path, labels: np.ndarray, shape: tuple[int, ...]) -> CachedPixels | None:
    """The cache if it is there and whole; a damaged one is named and removed."""
    try:
        cached = CachedPixels(folder, labels)
        if cached.pixels.shape != shape or cached.pixels.dtype != np.uint8:
            raise DataError(f"expected uint8 {list(shape)}, got {list(cached.pixels.shape)}")
    except FileNotFoundError:
        if not folder.exists():
            return None
        reason = "a file is missing"
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    else:
        return cached
    log.warning("pixel cache %s is damaged (%s); it is made again", folder, reason)
    shutil.rmtree(folder)
    return None


def _build(
    folder: Path,
    source: Source,
    preprocessing: Preprocessing,
    *,
    shape: tuple[int, ...],
    workers: int,
    same: Callable[[], bool],
) -> None:
    """Decode everything into a private folder, then give it its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    private = private_name(folder)
    private.mkdir()
    try:
        with (private / PIXELS).open("wb") as file:
            failures = _write_pixels(file, source, preprocessing, shape=shape, workers=workers)
        write_json(private / FAILURES, failures)
        if not same():
            raise DataError("the images changed while they were decoded; start again")
        _give_name(private, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _write_pixels(
    file: BinaryIO,
    source: Source,
    preprocessing: Preprocessing,
    *,
    shape: tuple[int, ...],
    workers: int,
) -> dict[int, tuple[str, str]]:
    """Write the .npy file; returns id -> (path, reason) of what could not be decoded."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    failures = {}
    samples = _Decoding(source, preprocessing)
    loader = DataLoader(
        samples,
        batch_size=CHUNK,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # else it draws from the stream of the whole process
    )
    position = 0
    for batch in loader:
        for planes, failure in batch:
            file.write((np.zeros(shape[1:], np.uint8) if planes is None else planes).tobytes())
            if failure is not None:
                failures[position] = failure
            position += 1
    file.flush()
    os.fsync(file.fileno())
    return failures


class _Decoding(Dataset[Decoded]):
    """Pixels of each sample, or why there are none."""

    def __init__(self, source: Source, preprocessing: Preprocessing) -> None:
        self.source, self.preprocessing = source, preprocessing

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> Decoded:
        try:
            return self.source.planes(i, self.preprocessing), None
        except DecodeError as error:
            return None, (error.path, error.reason)


def _as_it_is(batch: list[Decoded]) -> list[Decoded]:
    return batch


def _give_name(private: Path, folder: Path) -> None:
    try:
        private.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        # Another process finished first; equal keys mean equal pixels, so its folder serves.


def _remove_abandoned(folder: Path) -> None:
    """Unfinished folders of killed processes: full disks are the commonest end of a sweep."""
    for partial in folder.parent.glob(".*.partial"):
        with suppress(FileNotFoundError):  # its owner or another process was faster
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
