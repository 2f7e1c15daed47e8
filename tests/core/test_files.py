import json
import math
import threading
from pathlib import Path

import pytest

from core.files import private_name, write_atomically, write_json


def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", "text")
    assert (tmp_path / "a" / "b" / "file").read_text() == "text"


def test_only_the_finished_file_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"bytes")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_is_sorted_and_ends_with_a_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": [2]})
    text = (tmp_path / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [2], "b": 1}


def test_a_value_json_has_no_word_for_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_failing_rename_leaves_the_old_file_and_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def no_space(self: Path, target: Path) -> Path:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_two_threads_have_two_private_names(tmp_path: Path) -> None:
    names = [private_name(tmp_path / "file")]
    thread = threading.Thread(target=lambda: names.append(private_name(tmp_path / "file")))
    thread.start()
    thread.join()
    assert len(set(names)) == 2
    assert {name.parent for name in names} == {tmp_path}
