"""What the cluster of the slow tests makes of an environment without one."""

from pathlib import Path

import pytest

from tests.cluster import real_slurm
from tests.cluster.real_slurm import BrokenSlurmError, NoSlurmError, RealSlurm


def test_what_is_here_and_does_not_start_is_a_failure_and_no_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "slurmd.log").write_text("the reason\n")
    monkeypatch.setattr(real_slurm, "START_S", 0)
    with pytest.raises(BrokenSlurmError, match=r"slurmd does not answer: the reason"):
        RealSlurm(tmp_path)._wait("slurmd", lambda: False)
    assert not issubclass(BrokenSlurmError, NoSlurmError)


def test_without_root_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_slurm.os, "geteuid", lambda: 1000)
    with pytest.raises(NoSlurmError, match="need root"):
        RealSlurm(tmp_path / "new").start()


def test_without_packages_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_slurm.shutil, "which", lambda _: None)
    with pytest.raises(NoSlurmError, match="slurmd are not installed and there is no apt-get"):
        real_slurm._install(["slurmd"])
