"""A .npy file that grows row by row, so that no array is ever held whole."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np

MAGIC = b"\x93NUMPY\x01\x00"
HEADER_BYTES = 128
"""Reserved at the start; the number of rows, known at the end, is written into it."""


class NpyWriter:
    """Append rows to a .npy file; it is one only after `close()`.

    Args:
        path: A new file no one else writes to.
        dtype: Of every row.
        width: Columns of the array.
    """

    def __init__(self, path: Path, *, dtype: np.dtype, width: int) -> None:
        self.dtype, self.width, self.rows = dtype, width, 0
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def append(self, rows: np.ndarray) -> None:
        """Write rows [B, width] of the file's dtype behind the others."""
        if rows.dtype != self.dtype or rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(
                f"expected rows [B, {self.width}] of {self.dtype}, "
                f"got {list(rows.shape)} of {rows.dtype}"
            )
        self._file.write(np.ascontiguousarray(rows).data)
        self.rows += len(rows)

    def close(self) -> None:
        """Write the header and flush everything to disk."""
        self._file.seek(0)
        self._file.write(header(self.dtype, rows=self.rows, width=self.width))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with suppress(OSError):  # a full disk refuses the last bytes; the file is to be deleted
            self._file.close()


def header(dtype: np.dtype, *, rows: int, width: int) -> bytes:
    """First bytes of a C-ordered array [rows, width], always equally many.

    Example:
        >>> len(header(np.dtype(np.float16), rows=50_000, width=1000))
        128
    """
    text = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    length = HEADER_BYTES - len(MAGIC) - 2
    body = text.ljust(length - 1).encode() + b"\n"
    assert len(body) == length, f"a header of {len(text)} characters does not fit"
    return MAGIC + length.to_bytes(2, "little") + body
