import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import DataError
from datamodules.base import ImageDataModule
from datamodules.cifar import CIFAR10, CIFAR100

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def records(labels: list[list[int]], seed: int = 0) -> np.ndarray:
    """Records of the binary layout: the label bytes, then random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.concatenate([np.array(labels, dtype=np.uint8), pixels], axis=1)


def write_binary(path: Path, labels: list[list[int]], seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = records(labels, seed)
    path.write_bytes(rows.tobytes())
    return rows


def write_pickle(path: Path, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, 2))


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"], ids=["in-root", "in-sub-folder"])
def test_a_binary_record_is_label_then_red_green_blue_rows(tmp_path: Path, inner: str) -> None:
    rows = write_binary(tmp_path / inner / "test_batch.bin", [[7], [0]])
    dataset = CIFAR10(root=str(tmp_path)).dataset("test")
    image, label = dataset[0]
    assert (len(dataset), label) == (2, 7)
    assert image[0, 0, 1].item() == pytest.approx(rows[0, 1 + 1] / 255)  # red, first row
    assert image[1, 2, 3].item() == pytest.approx(rows[0, 1 + 1024 + 2 * 32 + 3] / 255)
    assert image[2, 31, 31].item() == pytest.approx(rows[0, 3072] / 255)  # the last byte


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"], ids=["in-root", "in-sub-folder"])
def test_pickles_give_the_samples_of_the_binary_files(tmp_path: Path, inner: str) -> None:
    rows = write_binary(tmp_path / "bin/test_batch.bin", [[3], [9], [3]])
    pickled = tmp_path / "py" / inner / "test_batch"
    write_pickle(pickled, data=rows[:, 1:], labels=[3, 9, 3], filenames=["x"] * 3)
    ids = [0, 1, 2]
    images, labels = CIFAR10(root=str(tmp_path / "py")).dataset("test").__getitems__(ids)
    expected, _ = CIFAR10(root=str(tmp_path / "bin")).dataset("test").__getitems__(ids)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert labels.tolist() == [3, 9, 3]


def test_train_is_the_five_files_one_after_the_other(tmp_path: Path) -> None:
    for i, name in enumerate(TRAIN):
        write_binary(tmp_path / f"{name}.bin", [[i], [i + 1]], seed=i)
    cifar = CIFAR10(root=str(tmp_path))
    assert cifar.labels("train").tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert cifar.sample_path("train", 7) == "data_batch_4.bin#1"
    assert (cifar.count("train"), cifar.splits) == (10, ("train", "test"))


def test_only_the_files_of_the_split_have_to_be_there(tmp_path: Path) -> None:
    write_binary(tmp_path / "test_batch.bin", [[1]])
    cifar = CIFAR10(root=str(tmp_path))
    assert cifar.faults("test") == []
    (fault,) = cifar.faults("train")
    for part in (
        "data_batch_1.bin",
        str(tmp_path),
        "3073",
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu",
        "dataset_library.cifar10.root=",
        "dataset_library.cifar10.download=true",
        "dataset_library.cifar10.train_batches=[1]",
    ):
        assert part in fault
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin"):
        cifar.dataset("train")


def test_some_train_batches_are_enough_if_that_is_said(tmp_path: Path) -> None:
    write_binary(tmp_path / "data_batch_2.bin", [[4], [5]])
    assert "data_batch_1.bin, data_batch_3.bin" in CIFAR10(root=str(tmp_path)).faults("train")[0]
    assert CIFAR10(root=str(tmp_path), train_batches=[2]).labels("train").tolist() == [4, 5]


@pytest.mark.parametrize("batches", [[], [0], [6], [1, 1]], ids=str)
def test_train_batches_that_cannot_be_are_a_fault(tmp_path: Path, batches: list[int]) -> None:
    (fault,) = CIFAR10(root=str(tmp_path), train_batches=batches).faults("test")
    assert "dataset_library.cifar10.train_batches" in fault
    assert str(batches) in fault


def test_a_truncated_file_says_which_record_is_cut(tmp_path: Path) -> None:
    whole = records([[1], [2]]).tobytes()
    (tmp_path / "test_batch.bin").write_bytes(whole[:-1000])
    with pytest.raises(
        DataError,
        match=r"test_batch\.bin .*multiple of 3073 bytes, got 5146: 1 records and 2073 .* record 1",
    ):
        CIFAR10(root=str(tmp_path)).dataset("test")


def test_an_empty_file_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match="got 0"):
        CIFAR10(root=str(tmp_path)).dataset("test")


def test_a_label_out_of_range_names_its_record(tmp_path: Path) -> None:
    write_binary(tmp_path / "test_batch.bin", [[1], [10], [200]])
    with pytest.raises(
        DataError, match=r"test_batch\.bin, record 1: expected labels in 0\.\.9, got 10 \(2 such"
    ):
        CIFAR10(root=str(tmp_path)).dataset("test")


PIXELS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"labels": [1, 2]}, "uint8 pixels under 'data'", id="no-pixels"),
        pytest.param({"data": PIXELS * 1.0, "labels": [1, 2]}, "uint8 pixels", id="floats"),
        pytest.param({"data": PIXELS[:, 1:], "labels": [1, 2]}, r"got \[2, 3071\]", id="width"),
        pytest.param({"data": PIXELS, "labels": [1]}, "expected 2 labels, got 1", id="fewer"),
        pytest.param({"data": PIXELS, "fine_labels": [1, 2]}, "under 'labels'", id="other-key"),
        pytest.param({"data": PIXELS, "labels": ["a", "b"]}, "list of numbers", id="text"),
        pytest.param({"data": PIXELS, "labels": [1, -1]}, "record 1: .* got -1", id="negative"),
    ],
)
def test_pickles_of_other_things_are_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    write_pickle(tmp_path / "test_batch", **content)
    with pytest.raises(DataError, match=message):
        CIFAR10(root=str(tmp_path)).dataset("test")


def test_a_pickle_that_is_no_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="expected a dict"):
        CIFAR10(root=str(tmp_path)).dataset("test")


def test_a_hundred_classes_have_two_label_bytes(tmp_path: Path) -> None:
    rows = write_binary(tmp_path / "cifar-100-binary/test.bin", [[4, 0], [19, 99]])
    cifar = CIFAR100(root=str(tmp_path))
    assert cifar.labels("test").tolist() == [0, 99]
    assert cifar.classes[0] == "apple"
    assert cifar.groups("test") == {"superclass": ["fruit_and_vegetables", "vehicles_2"]}
    assert cifar.dataset("test")[1][0][2, 31, 31].item() == pytest.approx(rows[1, -1] / 255)


def test_a_hundred_classes_from_pickles(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3072), np.uint8)
    folder = tmp_path / "cifar-100-python"
    write_pickle(folder / "train", data=pixels, fine_labels=[5, 99], coarse_labels=[0, 1])
    cifar = CIFAR100(root=str(tmp_path))
    assert cifar.labels("train").tolist() == [5, 99]
    assert cifar.groups("train") == {"superclass": ["aquatic_mammals", "fish"]}
    assert cifar.count("train") == 2


def test_coarse_labels_are_checked_too(tmp_path: Path) -> None:
    write_binary(tmp_path / "test.bin", [[20, 1]])
    with pytest.raises(DataError, match=r"record 0: expected coarse_labels in 0\.\.19, got 20"):
        CIFAR100(root=str(tmp_path)).dataset("test")


def test_the_class_lists_are_complete() -> None:
    assert CIFAR10().classes == sorted(CIFAR10().classes)
    assert (CIFAR10().num_classes, CIFAR10().classes[3]) == (10, "cat")
    assert CIFAR100().classes == sorted(set(CIFAR100().classes))
    assert (CIFAR100().num_classes, CIFAR100().classes[-1]) == (100, "worm")


@pytest.fixture
def small_train(tmp_path: Path) -> str:
    write_binary(tmp_path / "data_batch_1.bin", [[i % 2] for i in range(20)])
    write_binary(tmp_path / "test_batch.bin", [[i % 2] for i in range(4)])
    return str(tmp_path)


def test_val_is_a_fixed_part_of_train_with_its_class_balance(small_train: str) -> None:
    cifar = CIFAR10(root=small_train, train_batches=[1], val_fraction=0.2)
    assert cifar.splits == ("train", "val", "test")
    assert [cifar.count(split) for split in cifar.splits] == [16, 4, 4]
    assert np.bincount(cifar.labels("val")).tolist() == [2, 2]
    names = [cifar.sample_path("train", i) for i in range(16)]
    names += [cifar.sample_path("val", i) for i in range(4)]
    assert sorted(names) == sorted(f"data_batch_1.bin#{i}" for i in range(20))


def test_without_a_val_split_the_message_says_how_to_get_one(small_train: str) -> None:
    cifar = CIFAR10(root=small_train)
    (fault,) = cifar.faults("val")
    assert "Known: test, train; dataset_library.cifar10.val_fraction=0.1" in fault
    with pytest.raises(LookupError, match="val_fraction"):
        cifar.manifest("val")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 10], ids=str)
def test_a_fraction_outside_the_unit_range_is_a_fault(fraction: float) -> None:
    (fault,) = CIFAR10(val_fraction=fraction).faults("train")
    assert fault == f"expected dataset_library.cifar10.val_fraction in [0, 1), got {fraction}"


def test_the_digest_is_that_of_the_split(small_train: str, cache: Path) -> None:
    def digests(**options: Any) -> dict[str, str]:
        cifar = CIFAR10(root=small_train, train_batches=[1], **options)
        return {split: cifar.manifest(split) for split in cifar.splits}

    whole, cut = digests(), digests(val_fraction=0.2)
    assert whole["test"] == cut["test"]
    assert len({*whole.values(), *cut.values()}) == 4
    assert digests(val_fraction=0.3)["val"] != cut["val"]
    Path(small_train, "test_batch.bin").write_bytes(records([[1]]).tobytes())
    assert digests()["train"] == whole["train"]
    assert digests()["test"] != whole["test"]


def test_the_folder_around_the_files_is_not_in_the_digest(tmp_path: Path, cache: Path) -> None:
    write_binary(tmp_path / "a/test_batch.bin", [[1]])
    write_binary(tmp_path / "b/cifar-10-batches-bin/test_batch.bin", [[1]])
    one, two = (CIFAR10(root=str(tmp_path / name)).manifest("test") for name in "ab")
    assert one == two


def test_counting_binary_files_reads_no_pixels(
    small_train: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "fromfile", lambda *_, **__: pytest.fail("the file was read"))
    assert CIFAR10(root=small_train).count("test") == 4


def test_the_real_test_batch_has_a_thousand_images_a_class(data_dir: Path) -> None:
    calls = ImageDataModule.setup_calls
    cifar = CIFAR10(root=str(data_dir / "cifar10"))
    assert cifar.count("test") == 10_000
    assert ImageDataModule.setup_calls == calls
    assert np.bincount(cifar.labels("test")).tolist() == [1000] * 10
    # the published first images: cat, ship, ship, airplane
    assert [cifar.classes[label] for label in cifar.labels("test")[:4]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
    ]


def test_the_real_images_have_the_published_mean(data_dir: Path) -> None:
    images, _ = CIFAR10(root=str(data_dir / "cifar10")).dataset("test").__getitems__(range(5000))
    # 0.4914 0.4822 0.4465 are the means of the train part; half the test part is within 0.01
    assert images.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)
