from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.table import GROUP_ROWS, TableWriter, chunks, column_names, read_columns

DTYPES = ["int64", "int32", "uint8", "float16", "float32", "float64", "bool"]


def written(path: Path, *batches: dict[str, np.ndarray]) -> Path:
    writer = TableWriter(path)
    for batch in batches:
        writer.append(batch)
    writer.close()
    return path


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    width=st.integers(1, 5),
)
def test_columns_are_read_with_their_dtype_shape_and_bits(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int], dtype: str, width: int
) -> None:
    rng = np.random.default_rng(seed)
    batches = [
        {
            "flat": (rng.normal(size=size) * 50).astype(dtype),
            "wide": (rng.normal(size=(size, width)) * 50).astype(dtype),
            "word": rng.choice(["", "north", "süd", "东"], size),
        }
        for size in sizes
    ]
    read = read_columns(written(tmp_path_factory.mktemp("t") / "t.parquet", *batches))
    for name in ("flat", "wide", "word"):
        whole = np.concatenate([batch[name] for batch in batches])
        np.testing.assert_array_equal(read[name], whole)
    assert (read["flat"].dtype, read["wide"].dtype) == (np.dtype(dtype), np.dtype(dtype))
    assert all(column.flags.writeable for column in read.values())


def test_not_a_number_and_infinity_are_kept(tmp_path: Path) -> None:
    column = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    read = read_columns(written(tmp_path / "t.parquet", {"x": column}))
    np.testing.assert_array_equal(read["x"], column)


def test_many_small_batches_make_few_row_groups(tmp_path: Path) -> None:
    batches = [{"x": np.full(128, i)} for i in range(2 * GROUP_ROWS // 128 + 1)]
    path = written(tmp_path / "t.parquet", *batches)
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [
        GROUP_ROWS,
        GROUP_ROWS,
        128,
    ]


def test_some_columns_can_be_read_alone(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.parquet", {"x": np.arange(3), "top": np.zeros((3, 2)), "z": np.ones(3)}
    )
    assert list(read_columns(path, ["z", "top"])) == ["z", "top"]
    assert column_names(path) == ["x", "top", "z"]


def test_the_rows_come_in_chunks_of_bounded_size(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", {"x": np.arange(GROUP_ROWS * 2 + 3)})
    sizes = [len(chunk) for chunk in chunks(path)]
    assert max(sizes) <= GROUP_ROWS
    assert sum(sizes) == GROUP_ROWS * 2 + 3


@pytest.mark.parametrize(
    "later",
    [{"x": np.arange(2.0)}, {"y": np.arange(2)}, {"x": np.arange(2), "y": np.arange(2)}],
    ids=["dtype", "name", "one more"],
)
def test_later_rows_with_other_columns_are_refused(
    tmp_path: Path, later: dict[str, np.ndarray]
) -> None:
    writer = TableWriter(tmp_path / "t.parquet")
    writer.append({"x": np.arange(2)})
    with pytest.raises(ValueError, match="expected the columns of the first rows"):
        writer.append(later)
    writer.abandon()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": np.arange(2), "y": np.arange(3)}, "of one length, got {'x': 2, 'y': 3}"),
        ({"x": np.zeros((2, 2, 2))}, r"expected column 'x' as \[B\] or \[B, k\]"),
    ],
    ids=["lengths", "three axes"],
)
def test_columns_of_other_shapes_are_refused(
    tmp_path: Path, columns: dict[str, np.ndarray], message: str
) -> None:
    writer = TableWriter(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=message):
        writer.append(columns)
    writer.abandon()
