from collections.abc import Callable
from dataclasses import replace

import pytest

from reporting.disagreements import Disagreements, disagreements, records_of
from store.layout import Layout
from store.records import list_records
from store.runs import Run, read_run

BASE, PRUNED = "digits_cnn-none-0123456789", "digits_cnn-l1_filter-abcdef0123"

Record = Callable[..., str]

# label                 0  1  2  0  1  2
BASELINE_SAYS = [0, 1, 2, 1, 2, 2]
COMPRESSED_SAYS = [0, 2, 2, 0, 0, 1]


def run(layout: Layout, run_id: str) -> Run:
    found = read_run(layout, run_id)
    assert found is not None
    return found


def found(layout: Layout, most: int = 200) -> list[Disagreements]:
    runs = run(layout, PRUNED), run(layout, BASE)
    return list(disagreements(layout, *runs, list_records(layout), most=most))


@pytest.fixture
def both(empty: Layout, record: Record) -> Layout:
    record("none", BASELINE_SAYS)
    record("l1_filter", COMPRESSED_SAYS)
    return empty


def test_samples_decided_differently_are_listed_broken_ones_first(both: Layout) -> None:
    (digits,) = found(both)
    assert (digits.datamodule, digits.split, digits.total) == ("digits", "test", 4)
    told = [(row.sample_id, row.kind, row.baseline, row.compressed) for row in digits.rows]
    assert told == [
        (5, "broken", 2, 1),
        (1, "broken", 1, 2),
        (4, "changed", 2, 0),
        (3, "mended", 1, 0),
    ]
    assert (digits.rows[0].label, digits.rows[0].compressed_confidence) == (2, 0.375)


def test_only_so_many_are_given_but_all_are_counted(both: Layout) -> None:
    (digits,) = found(both, most=1)
    assert [row.sample_id for row in digits.rows] == [5]
    assert digits.total == 4


def test_a_sample_only_one_of_them_has_is_left_out(empty: Layout, record: Record) -> None:
    record("none", BASELINE_SAYS[:5])
    record("l1_filter", COMPRESSED_SAYS)
    (digits,) = found(empty)
    assert [row.sample_id for row in digits.rows] == [1, 4, 3]


@pytest.mark.parametrize(
    "parts",
    [
        {"view": {"name": "rotate_15"}},
        {"dataset": "other"},
        {"split": "val"},
        {"subset": 6},
        {"label_space": {"name": "imagenet_r"}},
    ],
    ids=["view", "dataset", "split", "subset", "label space"],
)
def test_records_of_other_samples_are_not_paired(
    empty: Layout, record: Record, parts: dict[str, object]
) -> None:
    record("none", BASELINE_SAYS)
    record("l1_filter", COMPRESSED_SAYS, **parts)
    assert found(empty) == []


def test_views_other_than_clean_are_not_listed(empty: Layout, record: Record) -> None:
    for compressor in ("none", "l1_filter"):
        record(compressor, BASELINE_SAYS, view={"name": "rotate_15"})
    assert found(empty) == []


def test_of_several_records_that_of_the_same_numerics_is_the_partner(
    empty: Layout, record: Record
) -> None:
    record("l1_filter", COMPRESSED_SAYS, numerics="cpu")
    record("none", COMPRESSED_SAYS, numerics="cpu")
    record("none", BASELINE_SAYS, numerics="gpu", device="gpu")
    (digits,) = found(empty)
    assert digits.total == 0


def test_the_records_of_a_run_are_those_of_its_model_and_subset(
    empty: Layout, record: Record
) -> None:
    mine = {record("none", BASELINE_SAYS), record("none", BASELINE_SAYS, view={"name": "x"})}
    record("none", BASELINE_SAYS, subset=3)
    record("l1_filter", COMPRESSED_SAYS)
    keys = {manifest["key"] for manifest in records_of(run(empty, BASE), list_records(empty))}
    assert keys == mine


@pytest.mark.parametrize(("limit", "found"), [(5, False), (6, True), (7, True)])
def test_a_limit_that_leaves_no_sample_out_is_none(
    empty: Layout, record: Record, limit: int, found: bool
) -> None:
    record("none", BASELINE_SAYS)  # of all six samples: no subset
    limited = replace(run(empty, BASE), config={"limit_samples": limit})
    assert bool(records_of(limited, list_records(empty))) == found
