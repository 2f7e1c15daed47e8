from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from core.errors import pick
from core.names import metric_key
from core.targets import build
from datamodules.base import ImageDataModule

LIBRARY = Path(__file__).parents[2] / "config" / "dataset_library" / "all.yaml"
NAMES = [
    "cifar10",
    "cifar100",
    "cifar10_1",
    "cifar10c",
    "cifar10h",
    "cue_conflict",
    "digit_pairs",
    "digits",
    "dollar_street",
    "dsprites",
    "dummy",
    "factors",
    "fashion_mnist",
    "geode",
    "image_folder",
    "imagenet",
    "imagenet_a",
    "imagenet_c",
    "imagenet_r",
    "imagenet_sketch",
    "imagenetv2",
    "mnist",
    "noise",
    "objectnet",
    "textures",
]
EMBEDDED = {"digit_pairs", "digits", "dummy", "factors", "noise", "textures"}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Every entry with its blanks filled as an evaluation does it."""
    monkeypatch.setenv("INTERPLAY_DATA", str(tmp_path / "nowhere"))
    filled = OmegaConf.merge({"batch_size": 16}, OmegaConf.load(LIBRARY))
    entries: Any = OmegaConf.to_container(filled, resolve=True)
    del entries["batch_size"]
    return entries


def test_the_library_lists_every_dataset(library: dict[str, Any]) -> None:
    assert sorted(library) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_builds_without_touching_data(library: dict[str, Any], name: str) -> None:
    datamodule = build(library[name], expects=ImageDataModule)
    assert datamodule.library_name == name
    assert datamodule.batch_size == 16
    assert metric_key(name, "test", "accuracy") == f"{name}_test_accuracy"
    assert "test" in datamodule.splits


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"geode", "objectnet", "image_folder"}))
def test_class_names_need_no_data(library: dict[str, Any], name: str) -> None:
    datamodule = build(library[name], expects=ImageDataModule)
    assert len(set(datamodule.classes)) == datamodule.num_classes > 1


@pytest.mark.parametrize("name", sorted(set(NAMES) - EMBEDDED))
def test_absent_data_is_one_sentence_that_says_what_to_do(
    library: dict[str, Any], name: str, tmp_path: Path
) -> None:
    datamodule = build(library[name], expects=ImageDataModule)
    fault, *_ = datamodule.faults("test")  # the others are of another dataset that it needs
    assert str(tmp_path / "nowhere" / name) in fault
    assert "expected" in fault
    assert f"dataset_library.{name}.root=" in fault
    with pytest.raises(FileNotFoundError):
        datamodule.manifest("test")


@pytest.mark.parametrize("name", sorted(EMBEDDED))
def test_embedded_data_is_always_there(library: dict[str, Any], name: str) -> None:
    datamodule = build(library[name], expects=ImageDataModule)
    assert not any(datamodule.faults(split) for split in datamodule.splits)
    images, labels = next(iter(datamodule.test_dataloader()))
    assert len(images) == len(labels) == 16


def test_a_root_may_be_anywhere(library: dict[str, Any], data_dir: Path) -> None:
    entry = pick("datamodule", "cifar10", library)
    datamodule = build(entry, expects=ImageDataModule, root=str(data_dir / "cifar10"))
    assert datamodule.count("test") == 10_000
