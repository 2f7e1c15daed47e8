import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from datamodules.mnist import MNIST, FashionMNIST

IMAGES = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([7, 2, 1], np.uint8)


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    code = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}i", code, *array.shape) + array.tobytes()


def write(folder: Path, *, images: bytes, labels: bytes, ending: str = "", dot: str = "-") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if ending else bytes
    (folder / f"t10k-images{dot}idx3-ubyte{ending}").write_bytes(pack(images))
    (folder / f"t10k-labels{dot}idx1-ubyte{ending}").write_bytes(pack(labels))
    return str(folder)


@pytest.mark.parametrize("inner", ["", "raw", "MNIST/raw"], ids=["root", "raw", "MNIST-raw"])
@pytest.mark.parametrize("ending", ["", ".gz"], ids=["plain", "gz"])
def test_every_layout_gives_the_same_samples(tmp_path: Path, inner: str, ending: str) -> None:
    write(tmp_path / inner, images=idx(IMAGES), labels=idx(LABELS), ending=ending)
    mnist = MNIST(root=str(tmp_path))
    images, labels = mnist.dataset("test").__getitems__([2, 0])
    assert images.shape == (2, 1, 28, 28)
    assert np.array_equal((images * 255).round().numpy()[:, 0], IMAGES[[2, 0]])
    assert labels.tolist() == [1, 7]
    assert (mnist.count("test"), mnist.sample_path("test", 2)) == (3, "t10k-images-idx3-ubyte#2")


def test_names_with_a_dot_are_read_too(tmp_path: Path) -> None:
    root = write(tmp_path, images=idx(IMAGES), labels=idx(LABELS), dot=".")
    assert MNIST(root=root).labels("test").tolist() == [7, 2, 1]


def test_clothing_has_its_own_folder_names_and_classes(tmp_path: Path) -> None:
    write(tmp_path / "FashionMNIST/raw", images=idx(IMAGES), labels=idx(LABELS))
    fashion = FashionMNIST(root=str(tmp_path))
    names = [fashion.classes[label] for label in fashion.labels("test")]
    assert names == ["Sneaker", "Pullover", "Trouser"]


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["plain", "gz"])
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        pytest.param(
            idx(IMAGES, 2050), idx(LABELS), r"images: expected magic 2051 .* got 2050", id="magic"
        ),
        pytest.param(idx(IMAGES)[:-1], idx(LABELS), r"16 \+ 2352 bytes .* got 2367", id="short"),
        pytest.param(idx(IMAGES) + b"x", idx(LABELS), "got 2369", id="long"),
        pytest.param(idx(IMAGES)[:9], idx(LABELS), r"magic 2051 .* in 9 bytes", id="half-header"),
        pytest.param(b"", idx(LABELS), "got nothing in 0 bytes", id="empty"),
        pytest.param(idx(IMAGES), idx(LABELS[:2]), "got 3 in .* and 2 in", id="fewer-labels"),
        pytest.param(idx(IMAGES), idx(LABELS + 3), r"record 0: .*0\.\.9, got 10", id="label"),
        pytest.param(idx(IMAGES), idx(LABELS[:0]), r"sizes of at least 1, got \[0\]", id="none"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, images: bytes, labels: bytes, message: str, ending: str
) -> None:
    root = write(tmp_path, images=images, labels=labels, ending=ending)
    with pytest.raises(DataError, match=message) as caught:
        MNIST(root=root).dataset("test")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed[:-200], id="truncated"),
        pytest.param(lambda packed: b"not gzip", id="no-gzip"),
        pytest.param(lambda packed: packed[:40] + b"\xff" * 60 + packed[100:], id="bits"),
    ],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: object) -> None:
    noise = np.random.default_rng(0).integers(0, 256, IMAGES.shape, dtype=np.uint8)
    root = write(tmp_path, images=idx(noise), labels=idx(LABELS), ending=".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        MNIST(root=root).dataset("test")


def test_missing_files_say_what_to_do(tmp_path: Path) -> None:
    (fault,) = FashionMNIST(root=str(tmp_path)).faults("train")
    for part in (
        "train-images-idx3-ubyte, train-labels-idx1-ubyte",
        "2051",
        "2049",
        ".gz",
        str(tmp_path),
        "FashionMNIST/raw",
        "https://github.com/zalandoresearch/fashion-mnist",
        "dataset_library.fashion_mnist.root=",
        "dataset_library.fashion_mnist.download=true",
    ):
        assert part in fault


def test_one_of_two_files_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, images=idx(IMAGES), labels=idx(LABELS))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    (fault,) = MNIST(root=str(tmp_path)).faults("test")
    assert fault.startswith("mnist test: t10k-labels-idx1-ubyte not found")


def test_the_real_files_have_the_published_counts(data_dir: Path) -> None:
    mnist = MNIST(root=str(data_dir / "mnist"))
    assert (mnist.count("test"), mnist.count("train")) == (10_000, 60_000)
    assert mnist.labels("test")[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(mnist.labels("test")).min() == 892  # the fives
