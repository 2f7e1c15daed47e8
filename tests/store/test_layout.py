from pathlib import Path

import pytest

from store.layout import Layout


@pytest.mark.parametrize(
    "name",
    ["", "../other", "a/b", ".hidden", "a\\b", "a\0b", "a.corrupt-0", "x" * 141],
    ids=["empty", "parent", "slash", "hidden", "backslash", "nul", "quarantined", "long"],
)
def test_a_name_that_leaves_its_folder_or_reads_as_private_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a run id is one file name"):
        Layout(Path("results")).run(name)


def test_every_kind_of_thing_has_its_own_place() -> None:
    layout = Layout(Path("results"))
    places = [
        layout.run_file("r-1"),
        layout.cell_file("r-1", "accuracy"),
        layout.record("k"),
        layout.artifact("d"),
        layout.sweeps,
        layout.lock_file("d"),
    ]
    assert [place.as_posix() for place in places] == [
        "results/runs/r-1/run.json",
        "results/runs/r-1/cells/accuracy.json",
        "results/records/k",
        "results/artifacts/d",
        "results/sweeps",
        "results/locks/d.lock",
    ]


def test_a_root_given_as_text_is_a_path() -> None:
    assert Layout("results").root == Path("results")  # type: ignore[arg-type]
