from pathlib import Path

import pytest

from core.cache import cache_dir


def test_our_own_variable_wins_over_the_shared_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERPLAY_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_dir() == Path("/a")


def test_the_shared_cache_folder_gets_a_folder_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERPLAY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_dir() == Path("/b/interplay")


def test_a_user_with_a_home_gets_a_folder_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INTERPLAY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/interplay")


def test_a_user_without_a_home_gets_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.delenv("INTERPLAY_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_dir().name.startswith("interplay-")
