import os
from pathlib import Path

import pytest

from store.cells import Cell, Status, write_cell
from store.layout import Layout
from store.receipts import _tree, is_committed, write_receipt


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with a run of one cell and a receipt for it, which reads a checkpoint."""
    layout = Layout(tmp_path / "results")
    commit(layout)
    (tmp_path / "weights.pt").write_text("weights")
    settings = {"model": {"checkpoint": f"{tmp_path}/weights.pt", "url": "https://x/y"}, "n": [1]}
    write_receipt(layout, "key", {"run": ["accuracy"]}, settings)
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
    write_receipt(layout, "key", {"run": ["accuracy"]}, {"root": setting})
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
