from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from core.preprocessing import Preprocessing
from datamodules import base
from datamodules.base import ImageDataModule
from datamodules.cifar import CIFAR10
from datamodules.dummy import Dummy
from datamodules.pixels import CachedPixels
from datamodules.samples import FittedDataset


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageDataModule, "setup_calls", 0)


@pytest.mark.usefixtures("reads")
def test_manifest_count_and_classes_read_nothing() -> None:
    datamodule = Dummy(samples=5)
    datamodule.manifest("test")
    assert (datamodule.count("test"), datamodule.num_classes) == (5, 10)
    assert datamodule.faults("test") == []
    assert ImageDataModule.setup_calls == 0


@pytest.mark.usefixtures("reads")
def test_a_split_is_read_once_however_often_it_is_asked_for() -> None:
    datamodule = Dummy()
    datamodule.setup("test")
    datamodule.setup("test")
    datamodule.dataset("test")
    datamodule.labels("test")
    assert ImageDataModule.setup_calls == 1
    datamodule.dataset("train")
    assert ImageDataModule.setup_calls == 2
    assert Dummy.setup_calls == 2  # one counter for the whole process


@pytest.mark.usefixtures("reads")
@pytest.mark.parametrize(
    ("stage", "expected"),
    [("fit", 2), ("validate", 1), ("test", 1), ("predict", 1), (None, 3)],
)
def test_a_stage_reads_its_splits(stage: str | None, expected: int) -> None:
    Dummy().setup(stage)
    assert ImageDataModule.setup_calls == expected


@pytest.mark.usefixtures("reads")
def test_setup_of_everything_reads_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073))
    CIFAR10(root=str(tmp_path)).setup()
    assert ImageDataModule.setup_calls == 1


def test_setup_of_everything_fails_where_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset_library\.cifar10\.root="):
        CIFAR10(root=str(tmp_path)).setup()


def test_a_split_that_does_not_exist_is_named_with_those_that_do() -> None:
    datamodule = Dummy()
    (fault,) = datamodule.faults("tests")  # type: ignore[arg-type]
    assert fault == ("unknown split of dummy 'tests', did you mean 'test'? Known: test, train, val")
    with pytest.raises(LookupError, match="did you mean 'test'"):
        datamodule.dataset("tests")  # type: ignore[arg-type]


def test_the_clean_view_changes_nothing_and_others_are_named() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert Dummy().view("clean")(images, torch.arange(2)) is images
    with pytest.raises(LookupError, match="unknown view 'cleam', did you mean 'clean'"):
        Dummy().view("cleam")


def test_the_size_follows_the_preprocessing() -> None:
    datamodule = Dummy(samples=2, size=(8, 8))
    assert datamodule.dataset("test")[0][0].shape == (3, 8, 8)
    datamodule.preprocessing = Preprocessing(size=(5, 6))
    dataset = datamodule.dataset("test")
    assert isinstance(dataset, FittedDataset)
    assert dataset[0][0].shape == (3, 5, 6)


def test_resized_pixels_come_from_a_file_where_that_is_asked_for(cache: Path) -> None:
    plain, kept = Dummy(samples=3), Dummy(samples=3, cache_pixels=True)
    plain.preprocessing = kept.preprocessing = Preprocessing(size=(5, 6))
    dataset = kept.dataset("test")
    assert isinstance(dataset, CachedPixels)
    expected = plain.dataset("test").__getitems__([0, 1, 2])[0]
    torch.testing.assert_close(dataset.__getitems__([0, 1, 2])[0], expected, rtol=0, atol=0)
    kept.preprocessing = None
    assert not isinstance(kept.dataset("test"), CachedPixels)


def _served(datamodule: ImageDataModule, name: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(getattr(datamodule, f"{name}_dataloader")())
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["val", "test", "predict"])
@pytest.mark.parametrize("size", [None, (9, 7)], ids=["native", "resized"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_image(
    name: str, size: tuple[int, int] | None, batch_size: int
) -> None:
    datamodule = Dummy(samples=20, size=(8, 8), batch_size=batch_size)
    datamodule.preprocessing = Preprocessing(size=size)
    images, labels = _served(datamodule, name)
    dataset = datamodule.dataset("val" if name == "val" else "test")
    expected = torch.stack([dataset[i][0] for i in range(20)])
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (9, 7)], ids=["native", "resized"])
@pytest.mark.parametrize("name", ["test", "train"])
def test_the_number_of_workers_changes_neither_image_nor_order(
    size: tuple[int, int] | None, name: str
) -> None:
    served = []
    for workers in (0, 2):
        datamodule = Dummy(samples=30, size=(8, 8), batch_size=7, num_workers=workers)
        datamodule.preprocessing = Preprocessing(size=size)
        loader = getattr(datamodule, f"{name}_dataloader")()
        served.append([(labels.tolist(), images) for _ in range(2) for images, labels in loader])
    for (labels, images), (expected_labels, expected) in zip(*served, strict=True):
        assert labels == expected_labels
        torch.testing.assert_close(images, expected, rtol=0, atol=0)


def test_the_train_loader_shuffles_by_its_seed_and_the_epoch() -> None:
    def epochs(seed: int) -> list[list[int]]:
        loader = Dummy(samples=30, num_classes=30, seed=seed).train_dataloader()
        return [[int(label) for _, labels in loader for label in labels] for _ in range(2)]

    one = epochs(1)
    assert sorted(one[0]) == sorted(one[1]) == list(range(30))
    assert one[0] != one[1]
    assert one == epochs(1)
    assert one[0] != epochs(2)[0]


def test_loaders_leave_the_random_numbers_of_the_process_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(Dummy().train_dataloader())
    list(Dummy().test_dataloader())
    assert torch.equal(torch.rand(1), expected)


class _Counting(pl.LightningModule):
    """Counts the batches that a trainer gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[int] = []

    def predict_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        self.labels += batch[1].tolist()
        return batch[1]


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # Lightning and new torch
def test_lightning_accepts_it_as_a_datamodule(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    model = _Counting()
    trainer.predict(model, datamodule=Dummy(samples=12, batch_size=5), return_predictions=False)
    assert model.labels == [i % 10 for i in range(12)]


def test_a_constructor_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(self: Path) -> bool:
        raise AssertionError(f"{self} was looked at")

    monkeypatch.setattr(Path, "is_file", touched)
    monkeypatch.setattr(Path, "is_dir", touched)
    CIFAR10(root=str(tmp_path))


def test_groups_and_names_belong_to_samples() -> None:
    datamodule = Dummy(samples=3)
    assert datamodule.groups("val") == {}
    assert datamodule.sample_path("val", 2) == "val#2"
    assert datamodule.labels("val").dtype == np.int64


def test_errors_and_datasets_are_offered_where_users_look_for_them() -> None:
    assert {"DecodeError", "ImageDataModule", "ImageDataset"} <= set(base.__all__)
