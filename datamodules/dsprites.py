"""dSprites: white sprites on black, every combination of five factors, from the published file."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.lib import format as npy

from core.errors import DataError
from core.names import Split
from datamodules.factors import FactorDataModule
from datamodules.manifest import files_manifest
from datamodules.samples import ArraySource

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"

SUBSET_SEED = 64
"""Decides which images are taken; another number is another dataset."""

ROWS_AT_ONCE = 4096
"""Rows that are unpacked together: 16 MB of images."""

LATENTS = ("color", "shape", "scale", "orientation", "x", "y")
"""Columns of the published factors; there is one colour only."""


class DSprites(FactorDataModule):
    """Squares, ellipses and hearts, 64 x 64 pixels: six scales, 40 orientations, 32 x 32 places.

    Args:
        samples: How many of the 737,280 images are taken, a fixed random subset; 0 = all, 3 GB.
        options: As in ImageDataModule. `root` holds the published file.
    """

    library_name = "dsprites"
    homepage: ClassVar[str] = "https://github.com/google-deepmind/dsprites-dataset"
    ordered: ClassVar[tuple[str, ...]] = ("scale", "x", "y")
    version: ClassVar[int] = 1

    def __init__(self, *, samples: int = 5000, **options: Any) -> None:
        super().__init__(**options)
        self.samples = samples

    @property
    def classes(self) -> list[str]:
        """The shapes."""
        return ["square", "ellipse", "heart"]

    def wrong_options(self) -> list[str]:
        """A negative number of samples."""
        if self.samples >= 0:
            return []
        return [f"expected dataset_library.dsprites.samples of at least 0, got {self.samples}"]

    def missing(self, split: Split) -> list[str]:
        """The file."""
        if (self.folder / FILE).is_file():
            return []
        return [
            f"dsprites {split}: expected {FILE} in {self.folder}, found none; get it from "
            f"{self.homepage} and set dataset_library.dsprites.root=<its folder>"
        ]

    def digest(self, split: Split, *, verify: bool) -> str:
        """The file and the subset."""
        identity = {"reader": "DSprites", "version": self.version}
        identity |= {"samples": self.samples, "seed": SUBSET_SEED}
        return files_manifest(self.folder, [FILE], identity=identity, verify=verify)

    def count_samples(self, split: Split) -> int:
        """Size of the subset."""
        return len(self._subset(self._total()))

    def factors(self, split: Split) -> dict[str, np.ndarray]:
        """All but the colour, which is always white."""
        latents = self._rows("latents_classes", width=(len(LATENTS),)).astype(np.int64)
        return dict(zip(LATENTS[1:], latents.T[1:], strict=True))

    def read(self, split: Split) -> ArraySource:
        """Unpack the images of the subset; nothing that is pickled is looked at."""
        factors = self.factors(split)
        pixels = self._rows("imgs", width=(64, 64))
        if len(pixels) != len(factors["shape"]) or pixels.max() > 1:
            raise DataError(
                f"{self.folder / FILE}: expected an image of 0 and 1 for each factor row"
            )
        names = [f"imgs#{row}" for row in self._subset(self._total())]
        groups = {name: [str(index) for index in indices] for name, indices in factors.items()}
        groups["shape"] = [self.classes[index] for index in factors["shape"]]
        return ArraySource(
            pixels=pixels[:, None].astype(np.uint8),
            labels=factors["shape"],
            names=names,
            groups=groups,
            white=1,
        )

    def _total(self) -> int:
        """Rows of the file, from a header."""
        with member(self.folder / FILE, "latents_classes") as (_, shape, _):
            return shape[0]

    def _subset(self, total: int) -> np.ndarray:
        """Rows that are taken, ascending."""
        if not 0 < self.samples < total:
            return np.arange(total)
        # Raw bits: numpy promises those of a bit generator for ever, not those of a permutation.
        keys = np.random.PCG64(SUBSET_SEED).random_raw(total)
        return np.sort(np.argsort(keys, kind="stable")[: self.samples])

    def _rows(self, name: str, *, width: tuple[int, ...]) -> np.ndarray:
        path = self.folder / FILE
        with member(path, name) as (file, shape, dtype):
            if shape[1:] != width or dtype.kind not in "iub":
                raise DataError(
                    f"{path}, {name}: expected whole numbers {[-1, *width]}, "
                    f"got {dtype} {list(shape)}"
                )
            wanted = self._subset(shape[0])
            return np.concatenate(list(_chosen(file, shape, dtype, wanted)))


@contextmanager
def member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """Open an array of an npz file behind its header: stream, shape, dtype; never unpickles.

    Raises:
        DataError: The file is damaged, has no such array, or it holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, fortran, dtype = read[npy.read_magic(file)](file)
            if dtype.hasobject or fortran:
                raise DataError(f"{path}, {name}: expected numbers in C order, got {dtype}")
            yield file, shape, dtype
    except DataError:
        raise
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged: expected an array {name}, got {error}") from error


def _chosen(
    file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], wanted: np.ndarray
) -> Iterator[np.ndarray]:
    """The wanted rows, a block of all rows in memory at a time."""
    row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
    for start in range(0, shape[0], ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, shape[0] - start)
        block = file.read(count * row_bytes)
        if len(block) < count * row_bytes:
            raise EOFError(f"{len(block)} bytes of {count * row_bytes} in row {start}")
        rows = np.frombuffer(block, dtype=dtype).reshape(count, *shape[1:])
        yield rows[wanted[(wanted >= start) & (wanted < start + count)] - start]
