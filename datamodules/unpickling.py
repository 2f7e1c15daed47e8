"""Reading the pickles of old datasets without running what they may contain."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError

NUMBERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
"""Kinds of arrays a dataset holds, in numpy's codes."""

DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a truncated or foreign file makes the unpickler raise."""


class _Kind:
    """Stands for `numpy.ndarray`; nothing can be done with it but name it."""


class _Number:
    """Stands for `numpy.dtype`: numpy's own can be brought into impossible states by a pickle."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"expected an array of numbers, got dtype {code!r}")
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):  # "|": one byte has no order
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array while it is read."""

    def __init__(self, *_: object) -> None:
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, fortran, content = state
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        flat = np.frombuffer(raw, number.dtype)
        self.array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _from_buffer(content: object, number: _Number, shape: tuple[int, ...], order: str) -> _Array:
    """How numpy writes an array in protocol 5."""
    array = _Array()
    array.__setstate__((1, shape, number, order == "F", content))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in an old protocol."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"expected bytes as latin1 text, got {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Number,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
"""Names a pickle may use, and what is used instead."""


class _Restricted(pickle.Unpickler):
    """Builds dicts, lists, text, numbers and arrays of numbers; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(
                f"it calls {module}.{name}, and a dataset holds arrays and text only"
            )
        return ALLOWED[module, name]


def read_pickle(path: Path) -> Any:
    """Content of a pickle of arrays, text, numbers, lists and dicts, of Python 2 or 3.

    Raises:
        DataError: The file is truncated, is no pickle, or asks for anything else to be run.
    """
    with path.open("rb") as file:
        try:
            return _plain(_Restricted(file, encoding="latin1").load())
        except DAMAGED as error:
            raise DataError(
                f"{path} cannot be read: expected a pickle of numpy arrays and text, "
                f"got {type(error).__name__}: {error}"
            ) from error


def _plain(value: Any) -> Any:
    """The same with numpy arrays in place of what stood for them in its dicts."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value
