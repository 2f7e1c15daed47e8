from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import manifest as manifests
from cluster.manifest import Entry, Manifest
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
