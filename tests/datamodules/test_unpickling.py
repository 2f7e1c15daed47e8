import datetime
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError
from datamodules.unpickling import read_pickle

ran: list[str] = []


def run(text: str) -> None:
    ran.append(text)


class Malicious:
    """Calls a function of ours as soon as it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return run, ("code",)


class MaliciousSystem:
    """The classic."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("__import__('os').mkdir('pwned')",)


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        np.arange(6, dtype=">i4").reshape(1, 2, 3),
        np.array([0.5, -1.0]),
    ],
    ids=["bytes", "fortran", "big-endian", "floats"],
)
def test_arrays_come_back_as_they_were(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    found = read_pickle(write(tmp_path / "p", {"data": array, "names": ["a", 1, None]}, protocol))
    assert found["data"].dtype == array.dtype
    assert np.array_equal(found["data"], array)
    assert found["names"] == ["a", 1, None]


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # {'data': uint8 [[1, 2], [200, 255]], 'labels': [3, 4]} as cPickle and the old numpy wrote it
    old = (
        b"(dp1\nS'data'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n"
        b"(I0\ntS'b'\ntRp5\n(I1\n(I2\nI2\ntcnumpy\ndtype\np6\n(S'u1'\nI0\nI1\ntRp7\n"
        b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x01\\x02\\xc8\\xff'\ntbsS'labels'\np8\n"
        b"(lp9\nI3\naI4\nas."
    )
    found = read_pickle(write(tmp_path / "p", old))
    assert found["data"].tolist() == [[1, 2], [200, 255]]
    assert found["labels"] == [3, 4]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param({"data": Malicious()}, r"\.run", id="function"),
        pytest.param(MaliciousSystem(), r"builtins\.eval", id="eval"),
        pytest.param(b"cos\nsystem\n(S'touch pwned'\ntR.", r"os\.system", id="by-hand"),
        pytest.param(datetime.date(2020, 1, 1), r"datetime\.date", id="harmless-but-foreign"),
        pytest.param(b"cnumpy\nndarray.tofile\n.", "ndarray.tofile", id="dotted"),
    ],
)
def test_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran.clear()
    with pytest.raises(DataError, match=f"it calls .*{named}"):
        read_pickle(write(tmp_path / "p", content))
    assert (ran, [path.name for path in tmp_path.iterdir()]) == ([], ["p"])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(np.array([Malicious()], dtype=object), id="in-an-array-of-objects"),
        pytest.param(np.zeros(2, dtype="U3"), id="text"),
        pytest.param(np.zeros(2, dtype=[("a", "i4")]), id="fields"),
    ],
)
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path: Path, content: Any) -> None:
    ran.clear()
    with pytest.raises(DataError, match=r"expected an array of numbers|it calls"):
        read_pickle(write(tmp_path / "p", content))
    assert ran == []


WHOLE = pickle.dumps({"data": np.arange(100, dtype=np.uint8)}, 2)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(WHOLE[:-50], id="truncated"),
        pytest.param(WHOLE.replace(b"Kd\x85", b"Kc\x85"), id="shape-and-bytes-disagree"),
        pytest.param(b"<html>", id="a-web-page"),
        pytest.param(b"cnumpy._core.multiarray\n_reconstruct\n)RK\x01b.", id="wrong-state"),
    ],
)
def test_what_is_damaged_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "data_batch_1", content)
    with pytest.raises(DataError, match=r"data_batch_1 cannot be read: expected a pickle"):
        read_pickle(path)
