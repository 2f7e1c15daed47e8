"""The published layout of dSprites, in small."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError
from datamodules.dsprites import FILE, DSprites


class Bomb:
    """Fails where somebody unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise AssertionError('a pickle was run')",)


def latents(n: int) -> np.ndarray:
    rows = np.arange(n)
    columns = [0 * rows, rows % 3, rows % 6, rows % 40, rows % 32, rows // 32]
    return np.stack(columns, axis=1).astype(np.int64)


def written(folder: Path, **arrays: np.ndarray) -> Path:
    n = 50
    images = np.zeros((n, 64, 64), dtype=np.uint8)
    images[np.arange(n), 0, np.arange(n)] = 1  # image i has its one white pixel in column i
    classes = latents(n)
    given: dict[str, Any] = {
        "imgs": images,
        "latents_classes": classes,
        "latents_values": classes / 2,
        **arrays,
    }
    np.savez_compressed(folder / FILE, metadata=np.array([Bomb()], dtype=object), **given)
    return folder


def test_images_and_factors_are_read_without_running_the_pickle(tmp_path: Path) -> None:
    data = DSprites(root=str(written(tmp_path)), samples=0)
    images, labels = data.dataset("test").__getitems__([0, 49])
    assert images.shape == (2, 1, 64, 64)
    assert images.nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 0, 49]]
    assert images.max() == 1
    assert labels.tolist() == [0, 49 % 3]
    factors = data.factors("test")
    assert list(factors) == ["shape", "scale", "orientation", "x", "y"]
    assert [int(column[49]) for column in factors.values()] == [1, 1, 9, 17, 1]
    assert data.groups("test")["shape"][:3] == ["square", "ellipse", "heart"]


def test_a_subset_is_fixed_and_images_and_factors_are_of_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.dsprites.ROWS_AT_ONCE", 7)
    data = DSprites(root=str(written(tmp_path)), samples=20)
    assert data.count("test") == 20
    source = data.read("test")
    rows = source.pixels[:, 0, 0].argmax(axis=1)
    assert len(set(rows)) == 20
    assert not np.array_equal(rows, np.arange(20))
    np.testing.assert_array_equal(latents(50)[rows, 3], data.factors("test")["orientation"])
    assert source.name(0) == f"imgs#{rows[0]}"
    other = DSprites(root=str(tmp_path), samples=19)
    assert set(other.read("test").pixels[:, 0, 0].argmax(axis=1)) < set(rows)
    assert data.manifest("test") != other.manifest("test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"imgs": np.zeros((50, 8, 8), dtype=np.uint8)}, "expected whole numbers"),
        ({"imgs": np.full((50, 64, 64), 2, dtype=np.uint8)}, "image of 0 and 1"),
        ({"imgs": np.zeros((9, 64, 64), dtype=np.uint8)}, "for each factor row"),
        ({"latents_classes": np.array([Bomb()], dtype=object)}, "expected numbers in C order"),
    ],
    ids=["size", "values", "count", "pickle"],
)
def test_another_layout_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        DSprites(root=str(written(tmp_path, **arrays))).read("test")


@pytest.mark.parametrize("content", [b"no zip", b""], ids=["text", "empty"])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        DSprites(root=str(tmp_path)).count("test")


def test_a_truncated_member_is_told(tmp_path: Path) -> None:
    whole = (written(tmp_path) / FILE).read_bytes()
    at = whole.index(b"imgs.npy") + 200
    (tmp_path / FILE).write_bytes(whole[:at] + b"\xff" * 40 + whole[at + 40 :])
    with pytest.raises(DataError, match="is damaged: expected an array imgs"):
        DSprites(root=str(tmp_path)).read("test")


def test_what_is_missing_is_told_with_the_key_to_set(tmp_path: Path) -> None:
    (fault,) = DSprites(root=str(tmp_path)).faults("test")
    assert str(tmp_path) in fault
    assert "dataset_library.dsprites.root" in fault
    assert DSprites(samples=-1).faults("test") == [
        "expected dataset_library.dsprites.samples of at least 0, got -1"
    ]
