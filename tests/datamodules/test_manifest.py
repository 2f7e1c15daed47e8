import json
import logging
import os
import time
from pathlib import Path

import pytest

from core.digest import file_digest as digest_of_file
from datamodules import manifest
from datamodules.manifest import content_hashes, files_manifest

LONG_AGO = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """Two files that have not changed for years."""
    place = tmp_path / "data"
    _write(place / "a.txt", "one")
    _write(place / "sub/b.txt", "two")
    return place


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really read."""
    names: list[str] = []
    real = digest_of_file

    def spy(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(manifest, "file_digest", spy)
    return names


def _write(path: Path, text: str, when: int = LONG_AGO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (when, when))


NAMES = ["sub/b.txt", "a.txt"]


def digest_of(folder: Path, names: list[str] = NAMES, **options: bool) -> str:
    return files_manifest(folder, names, identity={"reader": "r"}, **options)


def test_place_dates_and_order_do_not_matter(folder: Path, tmp_path: Path) -> None:
    before = digest_of(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    os.utime(moved / "a.txt", (LONG_AGO + 9, LONG_AGO + 9))
    assert digest_of(moved, NAMES[::-1]) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: _write(f / "a.txt", "eno", LONG_AGO + 1), id="content"),
        pytest.param(lambda f: _write(f / "a.txt", "one more"), id="size"),
    ],
)
def test_another_content_is_another_digest(folder: Path, change: object) -> None:
    before = digest_of(folder)
    change(folder)  # type: ignore[operator]
    assert digest_of(folder) != before


def test_the_name_of_a_file_and_the_reader_matter(folder: Path) -> None:
    (folder / "c.txt").write_text("one")
    assert digest_of(folder, ["c.txt"]) != digest_of(folder, ["a.txt"])
    other = files_manifest(folder, NAMES, identity={"reader": "s"})
    assert other != digest_of(folder)


def test_the_second_time_nothing_is_read(folder: Path, hashed: list[str]) -> None:
    first = digest_of(folder)
    assert sorted(hashed) == ["a.txt", "b.txt"]
    hashed.clear()
    assert digest_of(folder) == first
    assert hashed == []


def test_only_what_changed_is_read_again(folder: Path, hashed: list[str]) -> None:
    digest_of(folder)
    hashed.clear()
    _write(folder / "a.txt", "eno", LONG_AGO + 1)
    digest_of(folder)
    assert hashed == ["a.txt"]


def test_verifying_finds_what_size_and_date_hide(folder: Path) -> None:
    before = digest_of(folder)
    _write(folder / "a.txt", "eno")  # as long and as old as before, in the same inode
    assert digest_of(folder) == before
    assert digest_of(folder, verify=True) != before
    assert digest_of(folder) != before  # and what was found is remembered


def test_a_file_replaced_by_another_of_equal_size_and_date_is_noticed(folder: Path) -> None:
    before = digest_of(folder)
    _write(folder / "new", "eno")
    (folder / "new").replace(folder / "a.txt")
    assert digest_of(folder) != before


def test_a_file_that_just_changed_is_not_remembered(folder: Path, hashed: list[str]) -> None:
    _write(folder / "a.txt", "one", int(time.time()))
    digest_of(folder)
    hashed.clear()
    digest_of(folder)
    assert hashed == ["a.txt"]


def test_one_split_does_not_make_the_other_forgotten(folder: Path, hashed: list[str]) -> None:
    digest_of(folder, ["a.txt"])
    digest_of(folder, ["sub/b.txt"])
    hashed.clear()
    digest_of(folder)
    assert hashed == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"{half", id="truncated"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b'{"version": 1, "files": {"a.txt": [3, 1]}}', id="short-row"),
        pytest.param(b'{"version": 0, "files": {}}', id="old-version"),
        pytest.param(b"\xff\xfe", id="no-text"),
    ],
)
def test_a_damaged_cache_means_hashing_again(
    folder: Path, cache: Path, hashed: list[str], caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    before = digest_of(folder)
    (file,) = (cache / "hashes").iterdir()
    file.write_bytes(damage)
    hashed.clear()
    with caplog.at_level(logging.WARNING):
        assert digest_of(folder) == before
    assert sorted(hashed) == ["a.txt", "b.txt"]
    assert str(file) in caplog.text
    assert json.loads(file.read_bytes())["version"] == manifest.CACHE_VERSION


def test_a_cache_that_cannot_be_written_costs_time_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = digest_of(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert digest_of(folder) == before
    assert "not remembered" in caplog.text


def test_a_missing_file_is_no_digest(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_of(folder, ["gone.txt"])


def test_sizes_come_with_the_hashes(folder: Path) -> None:
    assert {name: size for name, (size, _) in content_hashes(folder, NAMES).items()} == {
        "a.txt": 3,
        "sub/b.txt": 3,
    }
