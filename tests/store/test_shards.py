import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from store.layout import Layout
from store.quarantine import CorruptFileWarning
from store.records import RecordWriter, find_records
from store.shards import merge_shards

KEY = "0123456789abcdef"


def shard(layout: Layout, ids: np.ndarray, *, batch: int = 4, **manifest: object) -> Path:
    with RecordWriter(layout, KEY, shard=True) as writer:
        for start in range(0, len(ids), batch):
            part = ids[start : start + batch]
            columns = {"sample_id": part, "word": np.array([f"s{i}" for i in part])}
            logits = np.stack([part % 7, part % 5], axis=1).astype(np.float16)
            writer.append(columns, logits, part[:, None].astype(np.float32))
        return writer.commit({"batch_size": batch, **manifest})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@settings(max_examples=5)
@given(rows=st.integers(1, 40), ranks=st.integers(1, 5), group=st.integers(1, 11))
def test_strided_shards_become_one_record_in_the_order_of_the_ids(
    tmp_path_factory: pytest.TempPathFactory, rows: int, ranks: int, group: int
) -> None:
    layout, ids = Layout(tmp_path_factory.mktemp("store")), np.arange(rows) * 3
    shards = [shard(layout, ids[rank::ranks]) for rank in range(min(ranks, rows))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.shards.GROUP_ROWS", group)
        folder = merge_shards(layout, KEY, shards, ids)
    records = find_records(layout, KEY)
    assert records is not None
    assert (records.folder, len(records)) == (folder, rows)
    assert records.columns()["sample_id"].tolist() == ids.tolist()
    assert records.columns()["word"].tolist() == [f"s{i}" for i in ids]
    assert records.logits().tolist() == [[i % 7, i % 5] for i in ids]
    assert records.features()[:, 0].tolist() == ids.tolist()
    assert [path.name for path in layout.records.iterdir()] == [KEY]


def test_shards_of_contiguous_ids_are_merged_too(layout: Layout) -> None:
    shards = [shard(layout, np.arange(5, 9)), shard(layout, np.arange(5))]
    merge_shards(layout, KEY, shards, np.arange(9))
    records = find_records(layout, KEY)
    assert records is not None
    assert records.columns()["sample_id"].tolist() == list(range(9))


def test_the_record_remembers_what_it_is_told_else_what_the_first_shard_does(
    layout: Layout,
) -> None:
    merge_shards(layout, KEY, [shard(layout, np.arange(3), threads=2)], np.arange(3))
    records = find_records(layout, KEY)
    assert records is not None
    assert (records.manifest["threads"], records.manifest["key"]) == (2, KEY)
    other = Layout(layout.root / "other")
    merge_shards(other, KEY, [shard(other, np.arange(3))], np.arange(3), manifest={"ranks": 1})
    records = find_records(other, KEY)
    assert records is not None
    assert records.manifest["ranks"] == 1
    assert "batch_size" not in records.manifest


def test_a_shard_is_no_record(layout: Layout) -> None:
    shard(layout, np.arange(3))
    assert find_records(layout, KEY) is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 2], [1]], r"1 missing \(3\)"),
        ([[0, 1, 2], [2, 3]], r"1 repeated \(2\)"),
        ([[0, 1, 2], [3, 99]], r"1 not expected \(99\)"),
        ([[0, 7], [0]], r"3 missing \(1, 2, 3\), 1 repeated \(0\), 1 not expected \(7\)"),
    ],
    ids=["missing", "repeated", "strange", "all three"],
)
def test_shards_that_do_not_hold_every_sample_once_are_refused(
    layout: Layout, ids: list[list[int]], message: str
) -> None:
    shards = [shard(layout, np.array(part)) for part in ids]
    with pytest.raises(DataError, match=message):
        merge_shards(layout, KEY, shards, np.arange(4))
    assert find_records(layout, KEY) is None


def test_no_shards_are_refused(layout: Layout) -> None:
    with pytest.raises(DataError, match=r"4 missing \(0, 1, 2, 3\)"):
        merge_shards(layout, KEY, [], np.arange(4))


def test_a_shard_whose_ids_do_not_ascend_is_refused(layout: Layout) -> None:
    with pytest.raises(DataError, match="expected ascending sample ids"):
        merge_shards(layout, KEY, [shard(layout, np.array([1, 0]))], np.arange(2))


def test_a_damaged_shard_is_refused(layout: Layout) -> None:
    folder = shard(layout, np.arange(3))
    (folder / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"is damaged: table\.parquet has 4 bytes"):
        merge_shards(layout, KEY, [folder], np.arange(3))


def test_damaged_logits_of_a_shard_are_noticed(layout: Layout) -> None:
    folder = shard(layout, np.arange(3))
    raw = bytearray((folder / "logits.npy").read_bytes())
    raw[-1] ^= 1
    (folder / "logits.npy").write_bytes(raw)
    with pytest.warns(CorruptFileWarning), pytest.raises(DataError, match=r"logits\.npy"):
        merge_shards(layout, KEY, [folder], np.arange(3))


@pytest.mark.slow
def test_merging_a_million_rows_takes_bounded_memory(layout: Layout) -> None:
    ids = np.arange(10**6)
    shards = [shard(layout, ids[rank::2], batch=50_000) for rank in range(2)]
    tracemalloc.start()
    merge_shards(layout, KEY, shards, ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # ids alone: 8 MB, held a few times; a row has over 100 bytes
