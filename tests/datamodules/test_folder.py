import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.preprocessing import Preprocessing
from datamodules.decoding import DecodeError
from datamodules.folder import ImageFolder, few

Writer = Callable[..., Path]


@pytest.fixture
def pets(tmp_path: Path, cache: Path, write_image: Writer) -> Path:
    """cat: 2.png, 10.JPG and one in a sub-folder; dog: a.png; and what is no image."""
    root = tmp_path / "pets"
    for i, name in enumerate(["dog/a.png", "cat/2.png", "cat/10.JPG", "cat/more/x.bmp"]):
        write_image(root / name, (i, 0, 0))
    (root / "cat/readme.txt").write_text("cats")
    (root / "cat/._2.png").write_bytes(b"a file of another system")
    (root / ".thumbnails").mkdir()
    (root / "list.csv").write_text("")
    return root


def test_samples_are_sorted_by_class_then_path(pets: Path) -> None:
    folder = ImageFolder(root=str(pets))
    assert (folder.splits, folder.classes) == (("test",), ["cat", "dog"])
    assert [folder.sample_path("test", i) for i in range(folder.count("test"))] == [
        "cat/10.JPG",
        "cat/2.png",
        "cat/more/x.bmp",
        "dog/a.png",
    ]
    assert folder.labels("test").tolist() == [0, 0, 0, 1]


def test_an_image_is_rgb_in_the_unit_range(pets: Path) -> None:
    image, label = ImageFolder(root=str(pets)).dataset("test")[1]
    assert (image.shape, label) == ((3, 4, 6), 0)
    assert image[:, 0, 0].tolist() == pytest.approx([1 / 255, 0, 0])


def test_images_come_in_the_size_of_the_model(pets: Path) -> None:
    folder = ImageFolder(root=str(pets))
    folder.preprocessing = Preprocessing(size=(3, 3))
    images, _ = folder.dataset("test").__getitems__([0, 3])
    assert images.shape == (2, 3, 3, 3)


def test_one_damaged_image_is_named_and_the_others_are_served(pets: Path) -> None:
    (pets / "cat/2.png").write_bytes(b"half")
    dataset = ImageFolder(root=str(pets)).dataset("test")
    with pytest.raises(DecodeError) as caught:
        dataset[1]
    assert caught.value.path == str(pets / "cat/2.png")
    assert [dataset[i][1] for i in (0, 2, 3)] == [0, 0, 1]


def test_the_tree_is_the_split_that_is_asked_for(pets: Path) -> None:
    folder = ImageFolder(root=str(pets), split="val")
    assert folder.splits == ("val",)
    assert folder.count("val") == 4
    (fault,) = folder.faults("test")
    assert fault == "unknown split of image_folder 'test'. Known: val"


@pytest.fixture
def with_splits(tmp_path: Path, cache: Path, write_image: Writer) -> Path:
    """train: a, b and c; test: a and c alone."""
    for name in ("train/a/1.png", "train/b/1.png", "train/c/1.png", "test/c/1.png", "test/a/1.png"):
        write_image(tmp_path / name)
    return tmp_path


def test_split_folders_share_their_labels(with_splits: Path) -> None:
    folder = ImageFolder(root=str(with_splits))
    assert folder.splits == ("train", "test")
    assert folder.classes == ["a", "b", "c"]
    assert folder.labels("train").tolist() == [0, 1, 2]
    assert folder.labels("test").tolist() == [0, 2]
    assert folder.faults("test") == []


def test_a_class_called_test_is_a_class(tmp_path: Path, write_image: Writer) -> None:
    write_image(tmp_path / "test/1.png")
    write_image(tmp_path / "lamp/1.png")
    folder = ImageFolder(root=str(tmp_path))
    assert folder.classes == ["lamp", "test"]
    assert folder.count("test") == 2


def test_the_digest_follows_content_names_and_labels(with_splits: Path) -> None:
    folder = ImageFolder(root=str(with_splits))
    before = {split: folder.manifest(split) for split in folder.splits}
    assert before["train"] != before["test"]
    (with_splits / "train/a/1.png").rename(with_splits / "train/a/2.png")
    assert folder.manifest("train") != before["train"]
    assert folder.manifest("test") == before["test"]
    shutil.rmtree(with_splits / "train/b")  # test's label of c becomes 1
    assert folder.manifest("test") != before["test"]


def test_the_digest_decodes_nothing(pets: Path) -> None:
    (pets / "cat/2.png").write_bytes(b"half")
    assert ImageFolder(root=str(pets)).manifest("test") == ImageFolder(root=str(pets)).manifest(
        "test"
    )


def test_a_tree_can_be_moved(pets: Path, tmp_path: Path) -> None:
    before = ImageFolder(root=str(pets)).manifest("test")
    assert ImageFolder(root=str(pets.rename(tmp_path / "moved"))).manifest("test") == before


def test_a_linked_tree_is_read(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pets)
    assert ImageFolder(root=str(tmp_path / "link")).count("test") == 4


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda root: None, "does not exist; expected one folder a class", id="gone"),
        pytest.param(lambda root: root.mkdir(), "has no sub-folder; expected one", id="empty"),
        pytest.param(
            lambda root: (root / "cat").mkdir(parents=True), "no image in cat of", id="no-image"
        ),
    ],
)
def test_what_is_missing_is_a_sentence(tmp_path: Path, prepare: object, message: str) -> None:
    root = tmp_path / "pets"
    prepare(root)  # type: ignore[operator]
    folder = ImageFolder(root=str(root), entry="pets")
    (fault,) = folder.faults("test")
    assert message in fault
    assert str(root) in fault
    with pytest.raises(FileNotFoundError, match="pets"):
        folder.manifest("test")


def test_the_key_in_a_message_is_that_of_the_entry(tmp_path: Path) -> None:
    (fault,) = ImageFolder(root=str(tmp_path / "x"), entry="pets").faults("test")
    assert "dataset_library.pets.root=" in fault


def test_a_split_name_that_does_not_exist_is_a_fault(pets: Path) -> None:
    (fault,) = ImageFolder(root=str(pets), split="tset").faults("test")  # type: ignore[arg-type]
    assert "dataset_library.image_folder.split 'tset', did you mean 'test'?" in fault


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a"], "a"), (list("abcde"), "a, b, c, d, e"), (list("abcdef"), "a, b, c, d, e and 1 more")],
    ids=["one", "five", "six"],
)
def test_a_few_names_stand_for_many(names: list[str], expected: str) -> None:
    assert few(names) == expected


@pytest.mark.slow
def test_worker_processes_serve_the_same_images(pets: Path) -> None:
    served = []
    for workers in (0, 2):
        folder = ImageFolder(root=str(pets), num_workers=workers, batch_size=3)
        folder.preprocessing = Preprocessing(size=(5, 5), crop=0.9)
        served.append([images.numpy() for images, _ in folder.test_dataloader()])
    assert all(np.array_equal(one, two) for one, two in zip(*served, strict=True))
