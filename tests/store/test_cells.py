import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimate import Estimate
from store.cells import Cell, list_cells, read_cell, write_cell
from store.layout import Layout
from store.quarantine import CorruptFileWarning

RUN = "digits_cnn-none-01"
ACCURACY = Estimate(0.9, n=360, low=0.86, high=0.93, unit="fraction", better="higher")

finite = st.floats(allow_nan=False, allow_infinity=False)
estimates = st.builds(
    Estimate,
    finite,
    n=st.none() | st.integers(0, 2**40),
    low=st.none() | finite,
    high=st.none() | finite,
    unit=st.sampled_from(["", "fraction", "ms"]),
    better=st.sampled_from(["", "higher", "lower"]),
    view=st.sampled_from(["clean", "rotate_15"]),
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def a_cell(**fields: object) -> Cell:
    given = {"measurement": "accuracy", "key": "k", "status": "done"}
    return Cell(**{**given, "values": {"digits_test_accuracy": ACCURACY}, **fields})  # type: ignore[arg-type]


@given(st.dictionaries(st.text(min_size=1, max_size=8), estimates, min_size=1, max_size=5))
def test_values_are_read_with_every_field_they_were_written_with(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Estimate]
) -> None:
    layout = Layout(tmp_path_factory.mktemp("store"))
    write_cell(layout, RUN, a_cell(values=values))
    read = read_cell(layout, RUN, "accuracy")
    assert read is not None
    told = {name: (float(value), value.fields()) for name, value in read.values.items()}  # type: ignore[attr-defined]
    assert told == {name: (float(value), value.fields()) for name, value in values.items()}


def test_a_failed_cell_keeps_its_traceback(layout: Layout) -> None:
    failed = a_cell(status="failed", values={}, reason="ValueError: x", error="Traceback ...")
    write_cell(layout, RUN, failed)
    assert read_cell(layout, RUN, "accuracy") == failed


def test_numbers_of_numpy_become_plain_ones(layout: Layout) -> None:
    value = Estimate(np.float64(0.5), n=np.int64(3), low=np.float32(0.25))
    write_cell(layout, RUN, a_cell(values={"a": value, "b": np.float32(2.5), "c": 3}))
    read = read_cell(layout, RUN, "accuracy")
    assert read is not None
    assert read.values == {"a": 0.5, "b": 2.5, "c": 3.0}
    assert (read.values["a"].n, read.values["a"].low) == (3, 0.25)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "result 'digits_test_x' is nan"),
        (Estimate(float("-inf")), "result 'digits_test_x' is -inf"),
        (Estimate(1.0, low=float("nan")), r"result 'digits_test_x\.low' is nan"),
        (Estimate(1.0, high=float("inf")), r"result 'digits_test_x\.high' is inf"),
    ],
    ids=["nan", "infinite", "lower end", "upper end"],
)
def test_what_is_no_number_is_refused_by_its_key(
    layout: Layout, value: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_cell(layout, RUN, a_cell(values={"digits_test_x": value}))
    assert read_cell(layout, RUN, "accuracy") is None


@pytest.mark.parametrize("value", ["0.9", None, True, [0.9]], ids=repr)
def test_a_value_of_another_type_is_refused_by_its_key(layout: Layout, value: object) -> None:
    with pytest.raises(TypeError, match="result 'digits_test_x' is a"):
        write_cell(layout, RUN, a_cell(values={"digits_test_x": value}))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "skipped"},
        {"values": {}},
        {"status": "failed", "error": "Traceback"},
        {"status": "not_applicable", "values": {}},
    ],
    ids=["unknown status", "done without a value", "failed with a value", "without a reason"],
)
def test_a_cell_that_contradicts_itself_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cell"):
        a_cell(**fields)


def test_the_cells_of_a_run_are_listed_by_name(layout: Layout) -> None:
    for name in ("nll", "accuracy"):
        write_cell(layout, RUN, a_cell(measurement=name))
    (layout.cells(RUN) / ".private.json").write_text("half")
    assert [cell.measurement for cell in list_cells(layout, RUN)] == ["accuracy", "nll"]
    assert list_cells(layout, "other-none-1") == []


def test_a_damaged_cell_is_named_and_the_others_are_listed(layout: Layout) -> None:
    for name in ("nll", "accuracy"):
        write_cell(layout, RUN, a_cell(measurement=name))
    path = layout.cell_file(RUN, "nll")
    path.write_text(path.read_text().replace("0.9,", "0.8,"))
    with pytest.warns(CorruptFileWarning, match=r"nll\.json is damaged"):
        assert [cell.measurement for cell in list_cells(layout, RUN)] == ["accuracy"]
    assert read_cell(layout, RUN, "nll") is None


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_the_cell_as_it_was(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_cell(layout, RUN, a_cell())
    before = layout.cell_file(RUN, "accuracy").read_bytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(OSError, match="the disk of the results store is full"):
        write_cell(layout, RUN, a_cell(seconds=3.0))
    monkeypatch.undo()
    assert layout.cell_file(RUN, "accuracy").read_bytes() == before
    assert [path.name for path in layout.cells(RUN).iterdir()] == ["accuracy.json"]


def write_many(root: str, writer: int) -> None:
    for count in range(20):
        values = {f"digits_test_x{i}": float(writer) for i in range(50)}
        write_cell(Layout(Path(root)), RUN, a_cell(values=values, seconds=float(count)))


@pytest.fixture
def writers(layout: Layout) -> Iterator[list[BaseProcess]]:
    context = get_context("fork")
    processes: list[BaseProcess] = [
        context.Process(target=write_many, args=(str(layout.root), writer)) for writer in range(8)
    ]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_reader_beside_eight_writers_sees_whole_cells_only(
    layout: Layout, writers: list[BaseProcess]
) -> None:
    read = []
    while any(process.is_alive() for process in writers):
        read.append(read_cell(layout, RUN, "accuracy"))
    seen = [cell for cell in [*read, read_cell(layout, RUN, "accuracy")] if cell is not None]
    assert [process.exitcode for process in writers] == [0] * 8
    assert {len(cell.values) for cell in seen} == {50}
    assert {len(set(cell.values.values())) for cell in seen} == {1}
    assert [path.name for path in layout.cells(RUN).iterdir()] == ["accuracy.json"]


def test_the_last_of_several_writers_wins_whole(layout: Layout) -> None:
    write_cell(layout, RUN, a_cell(seconds=1.0))
    write_cell(layout, RUN, replace(a_cell(), seconds=2.0))
    read = read_cell(layout, RUN, "accuracy")
    assert read is not None
    assert read.seconds == 2.0
