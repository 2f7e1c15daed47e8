"""MNIST and its relatives: IDX files, plain or compressed."""

import gzip
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from core.errors import DataError
from datamodules.arrays import ArrayDataModule, Located, Part, best_located
from datamodules.download import Archive
from datamodules.samples import ArraySource

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
MAGIC = {IMAGES: 2051, LABELS: 2049}  # 0x08 = unsigned bytes, then the number of dimensions
PREFIX: dict[Part, str] = {"train": "train", "test": "t10k"}


class MNIST(ArrayDataModule):
    """60,000 + 10,000 grey images of 28 x 28 pixels, the ten digits.

    Args:
        options: As in ArrayDataModule.
    """

    library_name = "mnist"
    channels = 1
    homepage: ClassVar[str] = "http://yann.lecun.com/exdb/mnist/"
    names: ClassVar[tuple[str, ...]] = tuple(map(str, range(10)))
    raw_folders: ClassVar[tuple[str, ...]] = ("", "raw", "MNIST/raw")
    archives: ClassVar[tuple[Archive, ...]] = tuple(
        Archive(url=f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz", checksum=checksum)
        for name, checksum in (
            ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
        )
    )

    @property
    def classes(self) -> list[str]:
        """The publisher's names, in the order of the labels."""
        return list(self.names)

    def locate(self, part: Part) -> Located:
        """The first folder that has both files, in any of the spellings in use."""
        folders = [self.folder / name for name in self.raw_folders]
        return best_located([_spelled(folder, part) for folder in folders])

    def expectation(self, part: Part) -> str:
        """Names, folders and magic numbers."""
        images, labels = f"{PREFIX[part]}-{IMAGES}", f"{PREFIX[part]}-{LABELS}"
        folders = ", ".join(name for name in self.raw_folders if name)
        return (
            f"{images} (magic {MAGIC[IMAGES]}) and {labels} (magic {MAGIC[LABELS]}), plain or "
            f".gz, there or in {folders}"
        )

    def count_part(self, part: Part) -> int:
        """From the header of the label file."""
        return _header(self.locate(part).paths[1], LABELS)[0]

    def read_part(self, part: Part) -> ArraySource:
        """Read and check both files of a part."""
        images_path, labels_path = self.locate(part).paths
        pixels, labels = read_idx(images_path, IMAGES), read_idx(labels_path, LABELS)
        if len(pixels) != len(labels):
            raise DataError(
                f"expected as many images as labels, got {len(pixels)} in {images_path} "
                f"and {len(labels)} in {labels_path}"
            )
        wrong = np.flatnonzero(labels >= len(self.names))
        if len(wrong):
            raise DataError(
                f"{labels_path}, record {wrong[0]}: expected a label in 0..{len(self.names) - 1}, "
                f"got {labels[wrong[0]]} ({len(wrong)} such records)"
            )
        stem = images_path.name.removesuffix(".gz")
        return ArraySource(
            pixels=pixels[:, None],
            labels=labels.astype(np.int64),
            names=[f"{stem}#{i}" for i in range(len(labels))],
        )


class FashionMNIST(MNIST):
    """60,000 + 10,000 grey images of 28 x 28 pixels, ten kinds of clothing.

    Args:
        options: As in ArrayDataModule.
    """

    library_name = "fashion_mnist"
    homepage: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist"
    names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    raw_folders: ClassVar[tuple[str, ...]] = ("", "raw", "FashionMNIST/raw")
    archives: ClassVar[tuple[Archive, ...]] = tuple(
        Archive(
            url=f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}.gz",
            checksum=checksum,
        )
        for name, checksum in (
            ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    )


def _spelled(folder: Path, part: Part) -> Located:
    """Names of the two files as they are spelled in a folder: plain before compressed."""
    names = []
    for kind in (IMAGES, LABELS):
        plain = f"{PREFIX[part]}-{kind}"
        dotted = plain.replace("-idx", ".idx")  # as some unpackers write it
        spellings = [plain, dotted, f"{plain}.gz", f"{dotted}.gz"]
        names.append(next((name for name in spellings if (folder / name).is_file()), plain))
    return Located(folder=folder, names=tuple(names))


def read_idx(path: Path, kind: str) -> np.ndarray:
    """Unsigned bytes of an IDX file, in the shape its header gives.

    Raises:
        DataError: Another magic number, fewer or more bytes than the header promises, or a
            damaged compressed file.
    """
    shape = _header(path, kind)
    content = _content(path)
    start, size = 4 + 4 * len(shape), int(np.prod(shape))
    if len(content) != start + size:
        raise DataError(
            f"{path} is truncated or damaged: expected {start} + {size} bytes for "
            f"{list(shape)}, got {len(content)}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _header(path: Path, kind: str) -> tuple[int, ...]:
    """Shape that an IDX file promises."""
    dimensions = int(kind[kind.index("idx") + 3])
    head = _content(path, 4 + 4 * dimensions)
    numbers = np.frombuffer(head[: len(head) // 4 * 4], dtype=">i4").tolist()
    if len(numbers) != 1 + dimensions or numbers[0] != MAGIC[kind]:
        magic = numbers[0] if numbers else "nothing"
        raise DataError(
            f"{path} is no IDX file of {kind.split('-')[0]}: expected magic {MAGIC[kind]} and "
            f"{dimensions} sizes, got {magic} in {len(head)} bytes"
        )
    if min(numbers[1:]) < 1:
        raise DataError(f"{path}: expected sizes of at least 1, got {numbers[1:]}")
    return tuple(numbers[1:])


def _content(path: Path, size: int = -1) -> bytes:
    """The first `size` bytes of a plain or compressed file; -1 = all."""
    if path.suffix != ".gz":
        with path.open("rb") as file:
            return file.read(size)
    try:
        with gzip.open(path, "rb") as file:
            return file.read(size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: expected a complete gzip file, got {error}") from error
