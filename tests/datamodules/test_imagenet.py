from pathlib import Path

import pytest
import torch
from PIL import Image

from core.names import Split
from datamodules import synsets
from datamodules.imagenet import (
    ImageNet,
    ImageNetA,
    ImageNetR,
    ImageNetSketch,
    ImageNetV2,
    _WordNetFolders,
)


def tree(folder: Path, names: list[str]) -> Path:
    """Class folders with one image file each; none of them is decoded here."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "x.JPEG").write_bytes(name.encode())
    return folder


THOUSAND = list(synsets.wnids())
NUMBERS = [str(i) for i in range(1000)]


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand class folders by WordNet id; to be linked to, not written to."""
    return tree(tmp_path_factory.mktemp("thousand"), THOUSAND)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand class folders by number; to be linked to, not written to."""
    return tree(tmp_path_factory.mktemp("numbered"), NUMBERS)


@pytest.mark.parametrize(
    ("kind", "split", "inner"),
    [
        pytest.param(ImageNet, "test", "val", id="imagenet-val"),
        pytest.param(ImageNet, "test", "", id="imagenet-root"),
        pytest.param(ImageNet, "train", "train", id="imagenet-train"),
        pytest.param(ImageNetSketch, "test", "sketch", id="sketch"),
    ],
)
def test_labels_are_places_among_the_thousand(
    tmp_path: Path, thousand: Path, kind: type[_WordNetFolders], split: Split, inner: str
) -> None:
    root = tmp_path if inner else thousand
    if inner:
        (tmp_path / inner).symlink_to(thousand)
    check_labels(kind(root=str(root)), split, THOUSAND)


@pytest.mark.parametrize(
    ("kind", "inner", "names"),
    [
        pytest.param(ImageNetA, "imagenet-a", list(synsets.wnids("imagenet_a")), id="a"),
        pytest.param(ImageNetR, "", list(synsets.wnids("imagenet_r")), id="r"),
    ],
)
def test_labels_are_places_among_the_two_hundred(
    tmp_path: Path, kind: type[_WordNetFolders], inner: str, names: list[str]
) -> None:
    tree(tmp_path / inner, names)
    check_labels(kind(root=str(tmp_path)), "test", names)


def check_labels(datamodule: _WordNetFolders, split: Split, names: list[str]) -> None:
    assert datamodule.faults(split) == []
    assert datamodule.labels(split).tolist() == list(range(len(names)))
    assert datamodule.sample_path(split, 10) == f"{names[10]}/x.JPEG"
    assert len(datamodule.classes) == datamodule.num_classes == len(names)


@pytest.mark.parametrize("inner", ["imagenetv2-matched-frequency-format-val", "other"])
def test_numeric_folders_are_sorted_as_numbers(tmp_path: Path, numbered: Path, inner: str) -> None:
    (tmp_path / inner).symlink_to(numbered)
    v2 = ImageNetV2(root=str(tmp_path / inner if inner == "other" else tmp_path))
    assert v2.labels("test").tolist() == list(range(1000))
    assert [v2.sample_path("test", i) for i in (1, 2, 10, 999)] == [
        "1/x.JPEG",
        "2/x.JPEG",
        "10/x.JPEG",
        "999/x.JPEG",
    ]


def test_class_folders_that_are_missing_are_named(tmp_path: Path, thousand: Path) -> None:
    (tmp_path / "val").mkdir()
    for name in THOUSAND[:3] + THOUSAND[5:]:
        (tmp_path / "val" / name).symlink_to(thousand / name)
    (fault,) = ImageNet(root=str(tmp_path)).faults("test")
    assert "expected 1000 class folders" in fault
    assert f"got 998 in {tmp_path / 'val'}, without {THOUSAND[3]}, {THOUSAND[4]};" in fault
    assert "https://image-net.org" in fault
    assert "dataset_library.imagenet.root=" in fault


def test_folders_that_are_no_class_are_named(tmp_path: Path) -> None:
    tree(tmp_path, [*synsets.wnids("imagenet_r"), "n99999999"])
    (fault,) = ImageNetR(root=str(tmp_path)).faults("test")
    assert "folders that are no class: n99999999" in fault


def test_class_folders_without_images_are_named(tmp_path: Path) -> None:
    tree(tmp_path, list(synsets.wnids("imagenet_a")))
    empty = synsets.wnids("imagenet_a")[7]
    (tmp_path / empty / "x.JPEG").unlink()
    (fault,) = ImageNetA(root=str(tmp_path)).faults("test")
    assert f"no image in {empty} of" in fault


@pytest.mark.parametrize("kind", [ImageNet, ImageNetV2, ImageNetA, ImageNetR, ImageNetSketch])
def test_an_empty_root_says_where_to_get_the_data(
    tmp_path: Path, kind: type[_WordNetFolders]
) -> None:
    (fault,) = kind(root=str(tmp_path)).faults("test")
    assert str(tmp_path) in fault
    assert kind.homepage in fault
    assert f"dataset_library.{kind.library_name}.root=" in fault


@pytest.mark.parametrize("kind", [ImageNet, ImageNetV2, ImageNetSketch])
def test_a_thousand_classes_need_no_label_space(kind: type[_WordNetFolders]) -> None:
    assert kind().label_space is None


def test_a_rendition_is_scored_among_its_200_classes() -> None:
    space = ImageNetR().label_space
    assert space is not None
    logits = torch.zeros(1, 1000)
    logits[0, 0] = 9.0  # tench is not among them
    logits[0, 2] = 1.0  # great white shark is, and comes second after goldfish
    assert space.restrict(logits).argmax().item() == 1
    assert ImageNetR().classes[:2] == ["goldfish", "great white shark"]


def test_train_and_test_have_their_own_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synsets, "wnids", lambda name: tuple(THOUSAND[:3]))
    tree(tmp_path / "val", THOUSAND[:3])
    tree(tmp_path / "train", THOUSAND[:3])
    (tmp_path / "train" / THOUSAND[0] / "x.JPEG").write_bytes(b"other")
    imagenet = ImageNet(root=str(tmp_path))
    assert imagenet.manifest("train") != imagenet.manifest("test")


def test_the_same_images_under_two_datasets_have_two_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synsets, "wnids", lambda name: tuple(THOUSAND[:3]))
    tree(tmp_path, THOUSAND[:3])
    sketch = ImageNetSketch(root=str(tmp_path)).manifest("test")
    assert sketch != ImageNet(root=str(tmp_path)).manifest("test")


def test_images_are_decoded_when_asked_for(tmp_path: Path) -> None:
    names = list(synsets.wnids("imagenet_a"))
    tree(tmp_path, names)
    Image.new("L", (5, 4), 255).save(tmp_path / names[3] / "x.JPEG")
    image, label = ImageNetA(root=str(tmp_path)).dataset("test")[3]
    assert (tuple(image.shape), label, image.min().item()) == ((3, 4, 5), 3, 1.0)
