"""Tables of groups: by id or by path, and what is wrong with them."""

from pathlib import Path

import pytest
import torch

from core.errors import DataError, NotApplicable
from datamodules.dummy import Dummy
from measurements.groups import GroupTables, key_parts, read_groups
from recording.records import Records

DATA = Dummy(samples=4)


def table(folder: Path, text: str) -> Path:
    file = folder / "groups.csv"
    file.write_text(text)
    return file


def some_records(ids: list[int]) -> Records:
    return Records({"sample_id": torch.tensor(ids)}, classes=2)


@pytest.mark.parametrize("keys", [["0", "2", "3"], ["test#0", "test#2", "test#3"]])
def test_samples_are_named_by_id_or_path(tmp_path: Path, keys: list[str]) -> None:
    head = "sample_id" if keys[0] == "0" else "path"
    file = table(tmp_path, f"{head},age\n{keys[0]},old\n{keys[1]}, young \n{keys[2]},\n")
    assert read_groups(file, DATA, "test") == {"age": {0: "old", 2: "young", 3: ""}}


def test_a_table_becomes_codes_of_the_records(tmp_path: Path) -> None:
    file = table(tmp_path, "sample_id,Age group,sex\n0,old,f\n1,young,\n3,old,m\n")
    age, sex = GroupTables({"toy": str(file)}).groupings(
        "toy", DATA, "test", some_records([0, 1, 2, 3])
    )
    assert (age.column, age.names, age.codes.tolist()) == (
        "age_group",
        ["old", "young"],
        [0, 1, -1, 0],
    )
    assert (sex.names, sex.codes.tolist()) == (["f", "m"], [0, -1, -1, 1])


def test_a_subset_of_the_samples_keeps_its_groups(tmp_path: Path) -> None:
    file = table(tmp_path, "sample_id,age\n0,old\n1,young\n3,old\n")
    (age,) = GroupTables({"toy": str(file)}).groupings("toy", DATA, "test", some_records([3, 1]))
    assert age.codes.tolist() == [0, 1]


def test_a_table_written_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_bytes("sample_id,age\r\n0,old\r\n".encode("utf-8-sig"))
    assert read_groups(file, DATA, "test") == {"age": {0: "old"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,age\n0,old\n", "expected the columns sample_id or path, then groups, got id, age"),
        ("sample_id\n0\n", "got sample_id"),
        ("sample_id,age\n0,old\n0,young\n", "sample_id '0' stands in more than one line"),
        ("sample_id,age\n0,old\n9,old\n", "1 of 2 lines have no sample_id of the test split"),
        ("path,age\ntest#8,old\n", "such as 'test#8'"),
    ],
    ids=["no key", "no groups", "twice", "beyond the split", "no such path"],
)
def test_a_table_that_cannot_be_understood_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_groups(table(tmp_path, text), DATA, "test")


def test_a_table_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"no such table of groups: /nowhere\.csv"):
        GroupTables({"toy": "/nowhere.csv"})


def test_a_changed_table_has_another_digest(tmp_path: Path) -> None:
    file = table(tmp_path, "sample_id,age\n0,old\n")
    tables = GroupTables({"toy": str(file)})
    before = tables.digests()
    file.write_text("sample_id,age\n0,young\n")
    assert tables.digests() != before


def test_without_groups_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotApplicable, match="toy has no group columns"):
        GroupTables({}).groupings("toy", DATA, "test", some_records([0]))


def test_names_that_become_equal_are_numbered() -> None:
    assert key_parts(["a b", "A-B", "a_b", "é", "!"]) == ["a_b", "a_b_2", "a_b_3", "é", "unnamed"]
