from pathlib import Path

import numpy as np
import pytest

from store.npy import NpyWriter


def test_rows_written_in_pieces_are_one_array(tmp_path: Path) -> None:
    rows = np.arange(15, dtype=np.float16).reshape(5, 3)
    writer = NpyWriter(tmp_path / "a.npy", dtype=rows.dtype, width=3)
    writer.append(rows[:2])
    writer.append(rows[2:])
    writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
    assert (tmp_path / "a.npy").stat().st_size == 128 + 5 * 3 * 2


def test_columns_of_a_transposed_array_are_written_as_rows(tmp_path: Path) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2).T
    writer = NpyWriter(tmp_path / "a.npy", dtype=rows.dtype, width=3)
    writer.append(rows)
    writer.close()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 4), np.float16), np.zeros((2, 3), np.float32), np.zeros(3, np.float16)],
    ids=["width", "dtype", "one row without its axis"],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    writer = NpyWriter(tmp_path / "a.npy", dtype=np.dtype(np.float16), width=3)
    with pytest.raises(ValueError, match=r"expected rows \[B, 3\] of float16, got"):
        writer.append(rows)
    writer.abandon()


def test_an_abandoned_file_is_no_array(tmp_path: Path) -> None:
    writer = NpyWriter(tmp_path / "a.npy", dtype=np.dtype(np.float16), width=3)
    writer.append(np.zeros((2, 3), np.float16))
    writer.abandon()
    with pytest.raises(ValueError, match="pickle"):
        np.load(tmp_path / "a.npy")
