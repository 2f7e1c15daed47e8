import logging
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.files import private_name
from core.preprocessing import Preprocessing
from datamodules import pixels
from datamodules.decoding import DecodeError
from datamodules.pixels import cache_key, cached_dataset
from datamodules.samples import ArrayDataset, FileSource, FittedDataset

WANTED = Preprocessing(size=(4, 4), crop=0.8)
Writer = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path, cache: Path, write_image: Writer) -> FileSource:
    """Three images of three sizes, the second damaged."""
    write_image(tmp_path / "data/a.png", (200, 100, 0), (9, 7))
    (tmp_path / "data/b.png").write_bytes(b"no image")
    write_image(tmp_path / "data/c.png", (0, 50, 255), (5, 12))
    names = ["a.png", "b.png", "c.png"]
    return FileSource(folder=tmp_path / "data", names=names, labels=np.array([1, 0, 2]))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples that were really decoded in this process."""
    ids: list[int] = []
    real = FileSource.planes

    def spy(self: FileSource, i: int, preprocessing: Preprocessing | None) -> np.ndarray:
        ids.append(i)
        return real(self, i, preprocessing)

    monkeypatch.setattr(FileSource, "planes", spy)
    return ids


def cached(source: FileSource, manifest: str = "m", **options: int) -> ArrayDataset:
    return cached_dataset(source, WANTED, manifest=lambda: manifest, **options)


def test_cached_samples_are_those_decoded_anew(source: FileSource) -> None:
    images, labels = cached(source).__getitems__([2, 0])
    expected, expected_labels = FittedDataset(source, WANTED).__getitems__([2, 0])
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert labels.tolist() == expected_labels.tolist() == [2, 1]


def test_a_damaged_image_is_damaged_from_the_cache_too(source: FileSource) -> None:
    for _ in ("made", "found"):
        with pytest.raises(DecodeError, match=r"b\.png: UnidentifiedImageError") as caught:
            cached(source)[1]
        assert caught.value.path == str(source.folder / "b.png")


def test_the_second_time_nothing_is_decoded(source: FileSource, decoded: list[int]) -> None:
    cached(source)
    assert decoded == [0, 1, 2]
    cached(source)
    assert decoded == [0, 1, 2]


def test_decoding_leaves_the_random_numbers_of_the_process_alone(source: FileSource) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    cached(source)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.slow
def test_worker_processes_decode_the_same_pixels(source: FileSource, cache: Path) -> None:
    alone = np.array(cached(source).pixels)
    shutil.rmtree(cache)
    assert np.array_equal(cached(source, workers=2).pixels, alone)


@pytest.mark.parametrize(
    "other",
    [
        Preprocessing(size=(5, 4), crop=0.8),
        Preprocessing(size=(4, 4), crop=0.9),
        Preprocessing(size=(4, 4), crop=0.8, interpolation="bicubic"),
    ],
    ids=["size", "crop", "interpolation"],
)
def test_all_that_decides_pixels_is_in_the_key(other: Preprocessing) -> None:
    assert cache_key("m", other) != cache_key("m", WANTED)


def test_normalisation_is_not_in_the_key() -> None:
    normalised = Preprocessing(size=(4, 4), crop=0.8, mean=(0.5,), std=(0.2,))
    assert cache_key("m", normalised) == cache_key("m", WANTED)


def test_other_files_and_another_decoder_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache_key("m", WANTED)
    assert cache_key("n", WANTED) != before
    monkeypatch.setattr(pixels, "decoder_version", lambda: {"pillow": "0"})
    assert cache_key("m", WANTED) != before


def _only_folder(cache: Path) -> Path:
    (folder,) = (cache / "pixels").iterdir()
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda f: os.truncate(f / "pixels.npy", 150), id="truncated"),
        pytest.param(lambda f: (f / "pixels.npy").write_bytes(b"x" * 300), id="garbage"),
        pytest.param(lambda f: (f / "pixels.npy").unlink(), id="no-pixels"),
        pytest.param(lambda f: (f / "failures.json").unlink(), id="no-failures"),
        pytest.param(lambda f: (f / "failures.json").write_text("["), id="half-failures"),
        pytest.param(lambda f: np.save(f / "pixels.npy", np.zeros((3, 3, 4, 5), "u1")), id="shape"),
    ],
)
def test_a_damaged_cache_is_named_and_made_again(
    source: FileSource,
    cache: Path,
    decoded: list[int],
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
) -> None:
    whole = np.array(cached(source).pixels)
    damage(_only_folder(cache))
    decoded.clear()
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(cached(source).pixels, whole)
    assert decoded == [0, 1, 2]
    assert str(_only_folder(cache)) in caplog.text


def test_what_is_interrupted_leaves_nothing(
    source: FileSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "write_json", full_disk)
        with pytest.raises(OSError, match="No space"):
            cached(source)
    assert list((cache / "pixels").iterdir()) == []
    assert len(cached(source)) == 3


def test_images_that_change_meanwhile_are_not_cached(source: FileSource, cache: Path) -> None:
    digests = iter(["before", "after"])
    with pytest.raises(DataError, match="changed while they were decoded"):
        cached_dataset(source, WANTED, manifest=lambda: next(digests))
    assert list((cache / "pixels").iterdir()) == []


def test_the_slower_of_two_writers_uses_what_the_faster_made(
    source: FileSource, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pixels._give_name

    def late(private: Path, folder: Path) -> None:
        shutil.copytree(private, folder)  # another process finishes just before
        real(private, folder)

    monkeypatch.setattr(pixels, "_give_name", late)
    assert len(cached(source)) == 3
    assert _only_folder(cache).name == cache_key("m", WANTED)


def test_what_killed_processes_left_is_removed_after_a_day(source: FileSource, cache: Path) -> None:
    old, young = (private_name(cache / "pixels" / name) for name in ("old", "young"))
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    cached(source)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_worker_opens_the_file_instead_of_copying_it(source: FileSource) -> None:
    dataset = cached(source)
    message = pickle.dumps(dataset)
    assert len(message) < 1000
    assert torch.equal(pickle.loads(message)[2][0], dataset[2][0])


def test_without_a_size_there_is_nothing_to_cache(source: FileSource) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        cached_dataset(source, Preprocessing(), manifest=lambda: "m")
