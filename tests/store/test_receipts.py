import os
from pathlib import Path

import pytest

from store import receipts
from store.cells import Cell, Status, write_cell
from store.layout import Layout
from store.receipts import (
    ASKED_FOR,
    CODE_ASKED_FOR,
    _tree,
    is_committed,
    leave_receipt,
    leave_receipt_of_files,
    states,
    states_before,
    states_before_files,
    write_receipt,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with a run of one cell and a receipt for it, which reads a checkpoint."""
    layout = Layout(tmp_path / "results")
    commit(layout)
    (tmp_path / "weights.pt").write_text("weights")
    settings = {"model": {"checkpoint": f"{tmp_path}/weights.pt", "url": "https://x/y"}, "n": [1]}
    write_receipt(layout, "key", {"run": ["accuracy"]}, states(settings))
    return layout


def commit(layout: Layout, key: str = "k", status: Status = "done") -> None:
    values = {"a_test_b": 1.0} if status == "done" else {}
    reason = "" if status == "done" else "why"
    cell = Cell(measurement="accuracy", key=key, status=status, values=values, reason=reason)
    write_cell(layout, "run", cell)


def test_what_is_as_it_was_is_committed(layout: Layout) -> None:
    assert is_committed(layout, "key")


def test_without_a_receipt_nobody_knows(layout: Layout) -> None:
    assert not is_committed(layout, "another")


def test_a_cell_that_is_gone_is_measured_again(layout: Layout) -> None:
    layout.cell_file("run", "accuracy").unlink()
    assert not is_committed(layout, "key")


def test_a_cell_of_another_definition_is_measured_again(layout: Layout) -> None:
    commit(layout, key="of version 2")
    assert not is_committed(layout, "key")


def test_a_cell_that_failed_since_is_measured_again(layout: Layout) -> None:
    commit(layout, status="failed")
    assert not is_committed(layout, "key")


def test_a_cell_that_does_not_apply_is_as_good_as_measured(layout: Layout) -> None:
    commit(layout, status="not_applicable")
    assert is_committed(layout, "key")


@pytest.mark.parametrize(
    "content", ["other weights", "WEIGHTS", None], ids=["other size", "same size", "removed"]
)
def test_another_checkpoint_of_the_same_name_is_noticed(
    content: str | None, layout: Layout, tmp_path: Path
) -> None:
    (tmp_path / "weights.pt").unlink()
    if content:
        (tmp_path / "weights.pt").write_text(content)
        os.utime(tmp_path / "weights.pt", ns=(1, 1))
    assert not is_committed(layout, "key")


def receipt_of(tmp_path: Path, setting: str) -> Layout:
    """A store with a receipt that names this path."""
    layout = Layout(tmp_path / "results")
    commit(layout)
    write_receipt(layout, "key", {"run": ["accuracy"]}, states({"root": setting}))
    return layout


def looked_at_anew(layout: Layout) -> bool:
    _tree.cache_clear()  # another process
    return is_committed(layout, "key")


def test_an_image_that_changes_deep_in_a_folder_is_noticed(tmp_path: Path) -> None:
    image = tmp_path / "root" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_text("pixels")
    layout = receipt_of(tmp_path, str(tmp_path / "root"))
    assert looked_at_anew(layout)
    os.utime(image, ns=(1, 1))
    assert not looked_at_anew(layout)


def test_a_file_of_the_working_folder_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.pt").write_text("weights")
    layout = receipt_of(tmp_path, "weights.pt")
    assert looked_at_anew(layout)
    Path("weights.pt").write_text("other weights")
    assert not looked_at_anew(layout)


def test_what_was_not_there_and_now_is_is_noticed(tmp_path: Path) -> None:
    layout = receipt_of(tmp_path, str(tmp_path / "optional"))
    assert looked_at_anew(layout)
    (tmp_path / "optional").mkdir()
    assert not looked_at_anew(layout)


@pytest.mark.parametrize("cells", [{}, {"run": ["accuracy", "gone"]}], ids=["none", "not all"])
def test_cells_that_cannot_be_read_leave_no_receipt(
    cells: dict[str, list[str]], tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "results")
    commit(layout)
    write_receipt(layout, "key", cells, {})
    assert not is_committed(layout, "key")


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A store with the receipt of a training that gave weights, out of a checkpoint and images."""
    monkeypatch.setenv(ASKED_FOR, "key")
    (tmp_path / "made").mkdir()
    for name in ("made/weights", "start.pt", "images"):
        (tmp_path / name).write_text(name)
    config = {
        "results_dir": f"{tmp_path}/results",
        "datasets": ["a"],
        "tuning": {"dataset": "b"},
        "model": {"checkpoint": f"{tmp_path}/start.pt"},
        "dataset_library": {"a": {"root": f"{tmp_path}/images"}, "c": {"root": f"{tmp_path}/c"}},
    }
    leave_receipt_of_files(config, states_before_files(config), [tmp_path / "made"])
    return Layout(tmp_path / "results")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("elsewhere", True),
        ("results/another", True),  # the folder of all results changes with every job
        ("c", True),  # of a dataset that is not read
        ("made/weights", False),
        ("start.pt", False),
        ("images", False),
    ],
)
def test_a_command_without_cells_is_done_while_its_files_are_as_they_were(
    changed: str, expected: bool, trained: Layout, tmp_path: Path
) -> None:
    (tmp_path / changed).parent.mkdir(exist_ok=True)
    (tmp_path / changed).write_text("changed")
    assert is_committed(trained, "key") == expected


def test_what_has_made_nothing_leaves_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED_FOR, "key")
    layout = Layout(tmp_path)
    config = {"results_dir": str(tmp_path), "datasets": [], "dataset_library": {}}
    leave_receipt_of_files(config, {}, [])
    leave_receipt_of_files(config, {}, [tmp_path / "gone"])
    assert not is_committed(layout, "key")


@pytest.mark.parametrize(("wanted", "expected"), [("code", True), ("edited", False)])
def test_only_the_code_that_was_asked_leaves_a_receipt(
    wanted: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "code_digest", lambda: "code")
    monkeypatch.setenv(ASKED_FOR, "key")
    monkeypatch.setenv(CODE_ASKED_FOR, wanted)
    layout = Layout(tmp_path / "results")
    commit(layout)
    leave_receipt(layout, {}, cells={"run": ["accuracy"]})
    assert is_committed(layout, "key") == expected


@pytest.mark.parametrize("overwritten", [True, False])
def test_a_checkpoint_overwritten_while_it_was_evaluated_leaves_no_receipt(
    overwritten: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED_FOR, "key")
    weights, layout = tmp_path / "weights.pt", Layout(tmp_path / "results")
    weights.write_text("weights")
    before = states_before({"checkpoint": str(weights)})
    if overwritten:
        weights.write_text("other weights")
    commit(layout)
    leave_receipt(layout, before, cells={"run": ["accuracy"]})
    assert is_committed(layout, "key") != overwritten
    assert layout.receipt_file("key").exists() != overwritten
