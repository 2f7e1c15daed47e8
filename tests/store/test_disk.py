import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.files import private_name, this_host
from store.disk import full_disk_told, remove_leftovers


@pytest.fixture(scope="module")
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leftover(folder: Path, pid: int, host: str | None = None) -> Path:
    return folder / f".cell.json.{host or this_host()}-{pid}-140.partial"


def test_files_and_folders_of_a_dead_process_are_removed(tmp_path: Path, dead_pid: int) -> None:
    leftover(tmp_path, dead_pid).write_text("half")
    folder = tmp_path / f".key.ab12.{this_host()}-{dead_pid}-7.partial"
    folder.mkdir()
    (folder / "table.parquet").write_text("half")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_is_writing_stays(tmp_path: Path) -> None:
    mine = private_name(tmp_path / "cell.json")
    mine.write_text("half")
    other = leftover(tmp_path, os.getppid())
    other.write_text("half")
    remove_leftovers(tmp_path)
    assert {mine, other} == set(tmp_path.iterdir())


def test_what_another_host_is_writing_stays(tmp_path: Path, dead_pid: int) -> None:
    other = leftover(tmp_path, dead_pid, host="node-17")
    other.write_text("half")
    remove_leftovers(tmp_path)
    assert other.exists()


def test_finished_files_stay(tmp_path: Path, dead_pid: int) -> None:
    done = tmp_path / f"cell.json.{this_host()}-{dead_pid}-140.partial.json"
    done.write_text("whole")
    remove_leftovers(tmp_path)
    assert done.exists()


def test_a_folder_that_does_not_exist_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_full_disk_is_told_in_a_sentence_that_names_the_store(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="the disk of the results store is full") as caught,
        full_disk_told(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(tmp_path) in str(caught.value)
    assert caught.value.errno == errno.ENOSPC


def test_another_fault_of_the_disk_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"), full_disk_told(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
