"""The columns of records as a Parquet file: appended in row groups, read as numpy arrays."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 8192
"""Rows that wait in memory for a row group: about 2 MB of columns."""


class TableWriter:
    """Append rows to a Parquet file; it is one only after `close()`.

    Args:
        path: A new file no one else writes to.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._file = path.open("wb")
        self._parquet: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write rows behind the others; every call brings the same columns.

        Args:
            columns: Arrays [B] of numbers, bools or strings, or [B, k] of numbers.
        """
        batch = as_batch(columns)
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._file, batch.schema, compression="zstd")
        if batch.schema != self._parquet.schema:
            raise ValueError(
                f"expected the columns of the first rows ({_text(self._parquet.schema)}), "
                f"got {_text(batch.schema)}"
            )
        self._waiting.append(batch)
        self.rows += len(batch)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self._write_group()

    def close(self) -> None:
        """Write what waits and the footer, and flush everything to disk."""
        assert self._parquet is not None, "a table without rows has no columns"
        if self._waiting:
            self._write_group()
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with suppress(OSError, pa.ArrowException):  # a full disk; the file is to be deleted
            if self._parquet is not None:
                self._parquet.close()
        with suppress(OSError):
            self._file.close()

    def _write_group(self) -> None:
        assert self._parquet is not None, "rows wait only once the columns are known"
        self._parquet.write_table(pa.Table.from_batches(self._waiting).combine_chunks())
        self._waiting = []


def as_batch(columns: Mapping[str, np.ndarray]) -> pa.RecordBatch:
    """Arrow form of rows; a column [B, k] becomes lists of the fixed length k."""
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"expected columns of one length, got {lengths}")
    return pa.RecordBatch.from_pydict({name: _arrow(name, a) for name, a in arrays.items()})


def as_columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Inverse of `as_batch`; the arrays are the caller's own, strings come as objects."""
    return {name: _numpy(table[name].combine_chunks()) for name in table.column_names}


def read_columns(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Columns `names` of a file, in that order; all of them by default."""
    with pq.ParquetFile(path) as file:
        return as_columns(file.read(columns=names))


def column_names(path: Path) -> list[str]:
    """Names of a file's columns, without reading a row."""
    return list(pq.read_schema(path).names)


def chunks(path: Path) -> Iterator[pa.Table]:
    """The rows of a file, a few at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            yield pa.Table.from_batches([batch])


def _arrow(name: str, array: np.ndarray) -> pa.Array:
    if array.ndim == 2 and array.dtype != object:
        flat = np.ascontiguousarray(array).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), array.shape[1])
    if array.ndim != 1:
        raise ValueError(f"expected column {name!r} as [B] or [B, k], got {list(array.shape)}")
    return pa.array(array.tolist(), pa.string()) if array.dtype == object else pa.array(array)


def _numpy(array: pa.Array) -> np.ndarray:
    if pa.types.is_fixed_size_list(array.type):
        flat = np.array(array.flatten().to_numpy(zero_copy_only=False))
        return flat.reshape(len(array), array.type.list_size)
    return np.array(array.to_numpy(zero_copy_only=False))


def _text(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
