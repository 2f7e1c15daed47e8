"""CIFAR-10 and CIFAR-100, as python pickles or in the binary layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from core.errors import DataError
from datamodules.arrays import ArrayDataModule, Located, Part, best_located
from datamodules.download import Archive
from datamodules.samples import ArraySource
from datamodules.unpickling import read_pickle

SHAPE = (3, 32, 32)
PIXEL_BYTES = 3072  # 1024 red, 1024 green, 1024 blue, each row by row

CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

CIFAR100_SUPERCLASSES = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices
household_furniture insects large_carnivores large_man-made_outdoor_things
large_natural_outdoor_scenes large_omnivores_and_herbivores medium_mammals non-insect_invertebrates
people reptiles small_mammals trees vehicles_1 vehicles_2
"""


class _Cifar(ArrayDataModule):
    """What CIFAR-10 and CIFAR-100 share: the record, the two formats, the two folders.

    Args:
        options: As in ArrayDataModule.
    """

    channels = 3
    homepage: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html"
    names: ClassVar[str]
    label_columns: ClassVar[dict[str, int]]
    """Label key of the pickles -> number of classes, in the order of a record's label bytes."""
    target: ClassVar[str]
    """The column that is the label."""
    binary_folder: ClassVar[str]
    pickle_folder: ClassVar[str]

    @property
    def classes(self) -> list[str]:
        """The publisher's names, in the order of the labels."""
        return self.names.split()

    def stems(self, part: Part) -> list[str]:
        """File names of a part without the ending of the binary layout."""
        return [part]

    def locate(self, part: Part) -> Located:
        """The binary layout if it is complete, else the pickles, else the nearest to complete."""
        stems = self.stems(part)
        binary = tuple(f"{stem}.bin" for stem in stems)
        root = self.folder
        return best_located(
            [
                Located(folder=root, names=binary),
                Located(folder=root / self.binary_folder, names=binary),
                Located(folder=root, names=tuple(stems)),
                Located(folder=root / self.pickle_folder, names=tuple(stems)),
            ]
        )

    def expectation(self, part: Part) -> str:
        """Both layouts."""
        stems = ", ".join(self.stems(part))
        size = len(self.label_columns) + PIXEL_BYTES
        return (
            f"{stems} with the ending .bin (records of {size} bytes), there or in "
            f"{self.binary_folder}, or without it (python pickles), there or in "
            f"{self.pickle_folder}"
        )

    def count_part(self, part: Part) -> int:
        """From the sizes of binary files; pickles have to be opened."""
        paths = self.locate(part).paths
        if paths[0].suffix != ".bin":
            return len(self.read_part(part))
        return sum(path.stat().st_size // self.record_bytes for path in paths)

    @property
    def record_bytes(self) -> int:
        """Bytes of a record: labels, then pixels."""
        return len(self.label_columns) + PIXEL_BYTES

    def read_part(self, part: Part) -> ArraySource:
        """Read and check every file of a part, one after the other."""
        paths = self.locate(part).paths
        contents = [self._read_file(path) for path in paths]
        columns = {
            key: np.concatenate([labels[key] for _, labels in contents])
            for key in self.label_columns
        }
        return ArraySource(
            pixels=np.concatenate([pixels for pixels, _ in contents]),
            labels=columns[self.target],
            names=[
                f"{path.name}#{i}"
                for path, (pixels, _) in zip(paths, contents, strict=True)
                for i in range(len(pixels))
            ],
            groups=self.groups_of(columns),
        )

    def groups_of(self, columns: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Group columns from the label columns."""
        return {}

    def _read_file(self, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Pixels uint8 [n, 3, 32, 32] and the label columns int64 [n]."""
        read = _read_binary if path.suffix == ".bin" else _read_batch
        pixels, labels = read(path, list(self.label_columns))
        for key, classes in self.label_columns.items():
            _check_labels(path, labels[key], key=key, classes=classes)
        return pixels.reshape(-1, *SHAPE), labels


class CIFAR10(_Cifar):
    """50,000 + 10,000 colour images of 32 x 32 pixels, ten classes.

    Args:
        train_batches: Which of the five train files make up `train`; None = all of them. With
            fewer, `train` and its digest are those of these files.
        options: As in ArrayDataModule.
    """

    library_name = "cifar10"
    names: ClassVar[str] = CIFAR10_CLASSES
    label_columns: ClassVar[dict[str, int]] = {"labels": 10}
    target: ClassVar[str] = "labels"
    binary_folder: ClassVar[str] = "cifar-10-batches-bin"
    pickle_folder: ClassVar[str] = "cifar-10-batches-py"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            checksum="c32a1d4ab5d03f1284b67883e8d87530",
            members=(
                *(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
                "cifar-10-batches-bin/test_batch.bin",
            ),
        ),
    )

    def __init__(self, *, train_batches: Sequence[int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.train_batches = None if train_batches is None else tuple(train_batches)

    def stems(self, part: Part) -> list[str]:
        """`test_batch`, or the train batches that are wanted."""
        if part == "test":
            return ["test_batch"]
        wanted = range(1, 6) if self.train_batches is None else self.train_batches
        return [f"data_batch_{i}" for i in wanted]

    def expectation(self, part: Part) -> str:
        """Also says how to go on with fewer train batches."""
        text = super().expectation(part)
        if part == "test":
            return text
        return f"{text} (with some of them only: dataset_library.cifar10.train_batches=[1])"

    def wrong_options(self) -> list[str]:
        """Batches that do not exist, and an empty or repeating list."""
        wanted = self.train_batches
        faults = super().wrong_options()
        if wanted is None or (wanted and set(wanted) <= set(range(1, 6)) and _distinct(wanted)):
            return faults
        return [
            *faults,
            "expected dataset_library.cifar10.train_batches with different numbers of 1..5, "
            f"got {list(wanted)}",
        ]


class CIFAR100(_Cifar):
    """50,000 + 10,000 colour images of 32 x 32 pixels, a hundred classes in twenty superclasses.

    Args:
        options: As in ArrayDataModule.
    """

    library_name = "cifar100"
    names: ClassVar[str] = CIFAR100_CLASSES
    label_columns: ClassVar[dict[str, int]] = {"coarse_labels": 20, "fine_labels": 100}
    target: ClassVar[str] = "fine_labels"
    binary_folder: ClassVar[str] = "cifar-100-binary"
    pickle_folder: ClassVar[str] = "cifar-100-python"
    group_columns = ("superclass",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            checksum="03b5dce01913d631647c71ecec9e9cb8",
            members=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
        ),
    )

    def groups_of(self, columns: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """Superclass of each sample."""
        superclasses = CIFAR100_SUPERCLASSES.split()
        return {"superclass": [superclasses[label] for label in columns["coarse_labels"]]}


def _distinct(numbers: Sequence[int]) -> bool:
    return len(set(numbers)) == len(numbers)


def _read_binary(path: Path, keys: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Records of one byte a label, then 3072 bytes of pixels."""
    content = np.fromfile(path, dtype=np.uint8)
    record = len(keys) + PIXEL_BYTES
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{path} is truncated or no CIFAR file: expected a multiple of {record} bytes, "
            f"got {len(content)}: {len(content) // record} records and "
            f"{len(content) % record} bytes of record {len(content) // record}"
        )
    rows = content.reshape(-1, record)
    labels = {key: rows[:, column].astype(np.int64) for column, key in enumerate(keys)}
    return np.ascontiguousarray(rows[:, len(keys) :]), labels


def _read_batch(path: Path, keys: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A pickled dict of `data` uint8 [n, 3072] and a list of n numbers a label key."""
    batch = read_pickle(path)
    pixels = batch.get("data") if isinstance(batch, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not pixels.size:
        raise DataError(f"{path}: expected a dict with uint8 pixels under 'data', found none")
    if pixels.ndim != 2 or pixels.shape[1] != PIXEL_BYTES:
        raise DataError(f"{path}: expected pixels [n, {PIXEL_BYTES}], got {list(pixels.shape)}")
    labels = {}
    for key in keys:
        values = batch.get(key)
        if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
            raise DataError(f"{path}: expected a list of numbers under {key!r}, found none")
        if len(values) != len(pixels):
            raise DataError(f"{path}: expected {len(pixels)} {key}, got {len(values)}")
        labels[key] = np.array(values, dtype=np.int64)
    return np.ascontiguousarray(pixels), labels


def _check_labels(path: Path, labels: np.ndarray, *, key: str, classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        record = int(wrong[0])
        raise DataError(
            f"{path}, record {record}: expected {key} in 0..{classes - 1}, got {labels[record]} "
            f"({len(wrong)} such records)"
        )
