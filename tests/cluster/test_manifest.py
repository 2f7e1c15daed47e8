import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import locks
from cluster import manifest as manifests
from cluster.manifest import Entry, Manifest
from core.errors import ConfigError
from store.layout import Layout
from store.quarantine import CorruptFileWarning

Sweep = Callable[..., Manifest]
JOB = Entry(id="0", overrides=["seed=0"], wave=0, slurm="12_0", folder="f")


def test_what_was_written_is_read(sweep: Sweep) -> None:
    manifest = sweep(JOB, options={"n_jobs": 2})
    manifests.write(manifest)
    assert manifests.read(manifest.path) == manifest
    assert manifests.read(Path(manifest.folder)) == manifest


def test_a_moved_folder_is_where_it_is_now(sweep: Sweep, tmp_path: Path) -> None:
    manifest = sweep(JOB)
    manifests.write(manifest)
    moved = Path(manifest.folder).rename(tmp_path / "moved")
    assert manifests.read(moved).folder == str(moved)


@pytest.mark.parametrize("name", ["one", "results/sweeps/one", "results/sweeps/one/manifest.json"])
def test_a_sweep_is_found_by_its_id_its_folder_and_its_file(
    name: str, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifests.write(sweep(JOB))
    found = manifests.find(name, Layout(Path("results")))
    assert found.resolve() == sweep().path


def test_an_unknown_sweep_is_told_with_the_nearest(sweep: Sweep, tmp_path: Path) -> None:
    manifests.write(sweep(JOB))
    with pytest.raises(LookupError, match="unknown sweep 'onne', did you mean 'one'"):
        manifests.find("onne", Layout(tmp_path / "results"))


def test_a_damaged_manifest_is_not_believed(sweep: Sweep) -> None:
    manifest = sweep(JOB)
    manifests.write(manifest)
    manifest.path.write_text(manifest.path.read_text().replace("12_0", "99_0"))
    with (
        pytest.warns(CorruptFileWarning, match="is damaged"),
        pytest.raises(FileNotFoundError, match="no manifest"),
    ):
        manifests.read(manifest.path)


def test_earlier_starts_of_the_same_sweep_come_newest_first(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "sweeps"
    for name, digest in [("1", "d"), ("2", "other"), ("3", "d")]:
        manifests.write(replace(sweep(JOB), folder=str(folder / name), digest=digest))
    found = manifests.earlier(Layout(tmp_path / "results"), "d")
    assert [manifest.id for manifest in found] == ["3", "1"]


def test_two_who_change_a_manifest_at_once_lose_nothing(sweep: Sweep) -> None:
    manifest = sweep(JOB, replace(JOB, id="1"))
    manifests.create(manifest)

    def done(number: str) -> None:
        manifests.update(manifest.path, lambda now: now.with_jobs({number: ended(now, number)}))

    def ended(now: Manifest, number: str) -> Entry:
        if number == "0":  # the other one comes in the middle of it, and waits
            other.start()
            other.join(0.05)
        return replace(now.jobs[int(number)], state="done")

    other = threading.Thread(target=done, args=["1"])
    done("0")
    other.join()
    assert [job.state for job in manifests.read(manifest.path).jobs] == ["done", "done"]


def test_a_folder_holds_one_sweep(sweep: Sweep) -> None:
    manifests.create(sweep(JOB))
    with pytest.raises(ConfigError, match="holds a sweep"):
        manifests.create(sweep())
    assert manifests.read(sweep().path) == sweep(JOB)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    locks._tell_once.cache_clear()
    with locks.claimed(tmp_path / "a" / "lock", "the same sweep", "status"):
        pass
    with locks.held(tmp_path / "b"):
        pass
    assert capsys.readouterr().err.count("cannot be locked") == 1


def test_a_lock_that_nobody_gives_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WAIT_S", 0.0)
    with locks.held(tmp_path / "a"), pytest.raises(TimeoutError, match=r"a has been locked by"):
        locks.held(tmp_path / "a").__enter__()
