import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from core.files import this_host
from store.layout import Layout
from store.quarantine import CorruptFileWarning
from store.records import (
    ABANDONED_S,
    RecordWriter,
    StoredRecords,
    find_records,
    list_records,
)

KEY = "0123456789abcdef"
FILES = ["table.parquet", "logits.npy", "features.npy"]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def rows(ids: np.ndarray, *, classes: int = 3) -> dict[str, object]:
    """One batch as arguments of `append`; every number follows from the sample id."""
    logits = -((ids[:, None] + np.arange(classes)) % 7).astype(np.float16)
    return {
        "columns": {
            "sample_id": ids.astype(np.int64),
            "confidence": (ids / 8).astype(np.float32),
            "topk_ids": np.stack([ids, ids + 1], axis=1),
            "region": np.array([f"r{i % 2}" for i in ids]),
        },
        "logits": logits,
        "features": np.stack([ids, ids * 2], axis=1).astype(np.float32),
    }


def record(layout: Layout, key: str = KEY, *, parts: bool = True, **manifest: object) -> Path:
    with RecordWriter(layout, key) as writer:
        for ids in (np.arange(4), np.arange(4, 6)):
            batch = rows(ids)
            writer.append(**batch if parts else {"columns": batch["columns"]})  # type: ignore[arg-type]
        return writer.commit({"batch_size": 4, **manifest})


def found(layout: Layout, key: str = KEY) -> StoredRecords:
    records = find_records(layout, key)
    assert records is not None
    return records


def test_records_are_read_as_they_were_appended(layout: Layout) -> None:
    record(layout)
    records, whole = found(layout), rows(np.arange(6))
    columns = records.columns()
    expected = whole["columns"]
    assert isinstance(expected, dict)
    assert {name: column.tolist() for name, column in columns.items()} == {
        name: column.tolist() for name, column in expected.items()
    }
    np.testing.assert_array_equal(records.logits(), whole["logits"])
    np.testing.assert_array_equal(records.features(), whole["features"])
    assert records.logits().dtype == np.float16


def test_the_manifest_tells_what_the_recorder_said_and_what_the_files_are(layout: Layout) -> None:
    folder = record(layout, threads=2)
    manifest = found(layout).manifest
    assert (manifest["batch_size"], manifest["threads"]) == (4, 2)
    assert (manifest["key"], manifest["rows"], len(found(layout))) == (KEY, 6, 6)
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert sizes == {name: (folder / name).stat().st_size for name in FILES}
    assert sizes["logits.npy"] == 128 + 6 * 3 * 2


def test_records_that_were_never_made_are_none_without_a_warning(layout: Layout) -> None:
    assert find_records(layout, KEY) is None
    assert list_records(layout) == []


def test_some_columns_can_be_asked_for(layout: Layout) -> None:
    record(layout)
    assert list(found(layout).columns(["region"])) == ["region"]
    with pytest.raises(LookupError, match="unknown column 'regoin', did you mean 'region'"):
        found(layout).columns(["regoin"])


def test_logits_that_were_not_kept_are_said_to_be_missing(layout: Layout) -> None:
    record(layout, parts=False)
    records = found(layout)
    assert (records.has_logits, records.has_features) == (False, False)
    with pytest.raises(LookupError, match="were made without logits"):
        records.logits()
    assert find_records(layout, KEY, needs=["logits"]) is None


def test_writing_to_the_memory_map_changes_no_file(layout: Layout) -> None:
    record(layout)
    logits = found(layout).logits()
    logits[:] = 9
    np.testing.assert_array_equal(found(layout).logits(), rows(np.arange(6))["logits"])


def test_nothing_exists_for_a_reader_before_the_commit(layout: Layout) -> None:
    with RecordWriter(layout, KEY) as writer:
        writer.append(**rows(np.arange(4)))  # type: ignore[arg-type]
        assert find_records(layout, KEY) is None
        assert list_records(layout) == []
    assert list(layout.records.iterdir()) == []


def test_an_error_while_recording_leaves_nothing(layout: Layout) -> None:
    def a_pass_that_breaks() -> None:
        with RecordWriter(layout, KEY) as writer:
            writer.append(**rows(np.arange(4)))  # type: ignore[arg-type]
            raise RuntimeError("the model broke")

    with pytest.raises(RuntimeError):
        a_pass_that_breaks()
    assert list(layout.records.iterdir()) == []


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.95, 0.999], ids=str)
@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_a_file_cut_anywhere_makes_the_records_absent(
    layout: Layout, name: str, fraction: float
) -> None:
    path = record(layout) / name
    os.truncate(path, int(path.stat().st_size * fraction))
    with pytest.warns(CorruptFileWarning, match=rf"{KEY} is damaged.*{name}"):
        assert find_records(layout, KEY) is None
    assert find_records(layout, KEY) is None
    record(layout)
    assert len(found(layout)) == 6


@pytest.mark.parametrize("region", [0, 0.2, 0.5, 0.8, 0.999], ids=str)
def test_one_flipped_byte_of_the_table_makes_the_records_absent(
    layout: Layout, region: float
) -> None:
    flip(record(layout) / "table.parquet", region)
    with pytest.warns(CorruptFileWarning, match="the digest of table.parquet"):
        assert find_records(layout, KEY) is None


@pytest.mark.parametrize("part", ["logits", "features"])
@pytest.mark.parametrize("region", [0, 0.5, 0.999], ids=str)
def test_one_flipped_byte_of_an_array_is_noticed_at_the_first_reading(
    layout: Layout, part: str, region: float
) -> None:
    flip(record(layout) / f"{part}.npy", region)
    records = found(layout)
    with (
        pytest.warns(CorruptFileWarning, match=f"the digest of {part}.npy"),
        pytest.raises(DataError, match="start the same command again"),
    ):
        getattr(records, part)()
    assert find_records(layout, KEY) is None


def test_an_array_that_is_needed_is_checked_when_it_is_looked_for(layout: Layout) -> None:
    flip(record(layout) / "logits.npy", 0.5)
    with pytest.warns(CorruptFileWarning, match="the digest of logits.npy"):
        assert find_records(layout, KEY, needs=["logits"]) is None


def flip(path: Path, region: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * region)] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_a_missing_file_makes_the_records_absent(layout: Layout, name: str) -> None:
    (record(layout) / name).unlink()
    with pytest.warns(CorruptFileWarning, match=f"{name}|missing"):
        assert find_records(layout, KEY) is None


def test_a_file_in_the_place_of_a_record_folder_is_moved_aside(layout: Layout) -> None:
    layout.records.mkdir()
    layout.record(KEY).write_text("what is this")
    with pytest.warns(CorruptFileWarning, match="is no folder"):
        assert find_records(layout, KEY) is None


def test_damaged_records_are_not_listed(layout: Layout) -> None:
    record(layout)
    record(layout, "fedc")
    (layout.record(KEY) / "table.parquet").unlink()
    with pytest.warns(CorruptFileWarning):
        find_records(layout, KEY)
    assert [manifest["key"] for manifest in list_records(layout)] == ["fedc"]


def test_of_two_equal_writers_the_first_result_is_kept(layout: Layout) -> None:
    with RecordWriter(layout, KEY) as late:
        late.append(**rows(np.arange(6)))  # type: ignore[arg-type]
        record(layout, writer="early")
        assert late.commit({"writer": "late"}) == layout.record(KEY)
    assert found(layout).manifest["writer"] == "early"
    assert [path.name for path in layout.records.iterdir()] == [KEY]


def test_records_with_logits_replace_those_without(layout: Layout) -> None:
    record(layout, parts=False)
    record(layout)
    assert found(layout).has_logits
    record(layout, parts=False)
    assert found(layout).has_logits
    assert [path.name for path in layout.records.iterdir()] == [KEY]


def test_a_damaged_record_does_not_stop_the_one_that_replaces_it(layout: Layout) -> None:
    (record(layout) / "manifest.json").unlink()
    with pytest.warns(CorruptFileWarning, match="is unfinished: it has no manifest.json"):
        record(layout)
    assert len(found(layout)) == 6


def test_threads_that_record_the_same_pass_leave_one_whole_record(layout: Layout) -> None:
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(lambda _: record(layout), range(16)))
    assert set(folders) == {layout.record(KEY)}
    assert [path.name for path in layout.records.iterdir()] == [KEY]
    assert len(found(layout).columns()["sample_id"]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"label": np.arange(2)}}, "expected a column sample_id, got label"),
        ({"logits": np.zeros((3, 3), np.float16)}, r"expected logits \[2, width\], got \[3, 3\]"),
        ({"logits": np.zeros((2, 3), np.float32)}, "float16 of .z - max z., got float32"),
        ({"features": np.zeros(2, np.float32)}, r"expected features \[2, width\], got \[2\]"),
        ({"features": np.zeros((2, 5), np.float32)}, r"expected rows \[B, 2\]"),
        ({"logits": None}, r"came with \['features', 'logits'\], these with \['features'\]"),
    ],
    ids=["no ids", "rows", "dtype", "axes", "another width", "logits missing"],
)
def test_a_batch_that_does_not_fit_is_refused_and_leaves_nothing(
    layout: Layout, change: dict[str, object], message: str
) -> None:
    with RecordWriter(layout, KEY) as writer:
        writer.append(**rows(np.arange(4)))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            writer.append(**{**rows(np.arange(2)), **change})  # type: ignore[arg-type]
    assert list(layout.records.iterdir()) == []


def test_a_record_without_a_row_is_refused(layout: Layout) -> None:
    with RecordWriter(layout, KEY) as writer, pytest.raises(ValueError, match="no row"):
        writer.commit({})
    assert list(layout.records.iterdir()) == []


def test_a_manifest_that_uses_a_name_of_the_store_is_refused(layout: Layout) -> None:
    with pytest.raises(ValueError, match=r"\['rows'\]"):
        record(layout, rows=7)


def appended(writer: RecordWriter) -> Callable[[], None]:
    return lambda: writer.append(**rows(np.arange(4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("moment", ["append", "commit"])
def test_a_full_disk_is_told_and_leaves_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = "store.npy.NpyWriter.append" if moment == "append" else "os.fsync"
    with RecordWriter(layout, KEY) as writer:
        writer.append(**rows(np.arange(4)))  # type: ignore[arg-type]
        monkeypatch.setattr(target, full)
        step = (lambda: writer.commit({})) if moment == "commit" else appended(writer)
        with pytest.raises(OSError, match="the disk of the results store is full") as caught:
            step()
    assert caught.value.errno == errno.ENOSPC
    assert list(layout.records.iterdir()) == []


def record_and_die(root: Path, step: int) -> None:
    """Record, but end like a killed process before the given call that reaches the disk."""
    calls = count()

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            if next(calls) == step:
                os._exit(9)
            return call(*arguments)

        return wrapped

    os.fsync = dying(os.fsync)  # type: ignore[assignment]
    Path.rename = dying(Path.rename)  # type: ignore[assignment,method-assign]
    Path.replace = dying(Path.replace)  # type: ignore[assignment,method-assign]
    record(Layout(root))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(("step", "made"), [*((n, False) for n in range(7)), (7, True), (8, True)])
def test_a_writer_killed_before_any_call_that_reaches_the_disk_leaves_nothing_half(
    layout: Layout, step: int, made: bool
) -> None:
    writer = get_context("fork").Process(target=record_and_die, args=(layout.root, step))
    writer.start()
    writer.join()
    assert writer.exitcode == (9 if step < 8 else 0)
    assert (find_records(layout, KEY) is not None) == made
    record(layout)
    assert [path.name for path in layout.records.iterdir()] == [KEY]
    assert len(found(layout).logits()) == 6


WRITER = f"""
import sys
import numpy as np
from pathlib import Path
from store.layout import Layout
from store.records import RecordWriter
writer = RecordWriter(Layout(Path(sys.argv[1])), "{KEY}")
print("started", flush=True)
for start in range(0, 60000, 500):
    ids = np.arange(start, start + 500)
    writer.append({{"sample_id": ids}}, np.zeros((500, 100), np.float16))
writer.commit({{}})
print("committed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(8))
def test_a_writer_killed_at_any_moment_leaves_nothing_or_everything(
    layout: Layout, moment: int
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(layout.root)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "started\n"
    time.sleep(0.03 * moment)
    writer.send_signal(signal.SIGKILL)
    said = writer.communicate()[0]
    left = find_records(layout, KEY)
    assert left is None or len(left.logits()) == 60000
    assert left is not None or said == ""
    record(layout, "another")
    hidden = [path for path in layout.records.iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_shards_of_a_killed_job_are_removed_when_the_pass_is_recorded(layout: Layout) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale = layout.records / f".{KEY}.ab12cd34.{this_host()}-{gone.pid}-1.shard"
    other = layout.records / f".other.ab12cd34.{this_host()}-{gone.pid}-1.shard"
    for folder in (stale, other):
        folder.mkdir(parents=True)
    record(layout)
    assert {path.name for path in layout.records.iterdir()} == {KEY, other.name}


@pytest.mark.parametrize("suffix", ["shard", "partial"])
@pytest.mark.parametrize(("age", "left"), [(1.1, False), (0.9, True)], ids=["old", "young"])
def test_what_another_host_has_left_is_removed_when_nobody_will_finish_it(
    suffix: str, age: float, left: bool, layout: Layout
) -> None:
    folder = layout.records / f".other.ab12cd34.elsewhere-1-1.{suffix}"
    folder.mkdir(parents=True)
    written = time.time() - age * ABANDONED_S
    os.utime(folder, (written, written))
    record(layout)
    assert folder.exists() == left


def record_a_million_rows(layout: Layout, width: int) -> None:
    rng = np.random.default_rng(0)
    with RecordWriter(layout, KEY) as writer:
        for start in range(0, 10**6, 1000):
            columns = {"sample_id": np.arange(start, start + 1000), "x": rng.random(1000)}
            writer.append(columns, np.zeros((1000, width), np.float16))
        writer.commit({})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root and the permission to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 1000], ids=["table", "logits"])
def test_a_disk_that_is_really_full_is_told_and_leaves_nothing(
    small_disk: Path, width: int
) -> None:
    layout = Layout(small_disk)
    record(layout, "before")
    with pytest.raises(OSError, match="the disk of the results store is full"):
        record_a_million_rows(layout, width)
    assert [path.name for path in layout.records.iterdir()] == ["before"]
    assert len(found(layout, "before").logits()) == 6
