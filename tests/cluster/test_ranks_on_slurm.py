"""Several processes for one model, on a real SLURM of two nodes."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cluster import manifest as manifests
from store.layout import Layout
from store.records import StoredRecords, find_records, list_records
from tests.cluster.small_app import LIMIT_S, ROOT, Project, SmallApp

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster, not two

A_MINUTE = 60

ELEVEN = (
    *("model.pretrained=false", "measurements=[accuracy]", "limit_samples=11", "batch_size=4"),
    *("threads=1", "wandb.mode=disabled", "trainer.accelerator=cpu"),
)
TWO_BY_TWO = (
    *("mode=cluster", "trainer.devices=2", "trainer.num_nodes=2", "hydra.launcher.poll_seconds=1"),
    *("hydra.launcher.options.nodes=2", "hydra.launcher.options.ntasks_per_node=2"),
)


def stored(results: Path) -> StoredRecords:
    """The only records there are."""
    (manifest,) = list_records(Layout(results))
    found = find_records(Layout(results), manifest["key"], needs=("logits",))
    assert found is not None
    return found


def test_two_ranks_on_each_of_two_nodes_give_the_rows_of_one(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    project = Project(tmp_path, slurm)
    ended = project.typed(*ELEVEN, *TWO_BY_TWO)
    assert ended.returncode == 0, ended.stderr
    (job,) = manifests.read(project.sweeps()[0]).jobs
    assert job.state == "done"
    logs = sorted((project.sweeps()[0] / "logs").glob("*_log.out"))
    assert [path.read_text().count("1 forward passes") for path in logs] == [1, 0, 0, 0]
    several = project.results.rename(tmp_path / "several")

    project.results.mkdir()
    alone = project.typed(*ELEVEN)
    assert alone.returncode == 0, alone.stderr
    here, there = stored(project.results), stored(several)
    assert here.manifest["key"] == there.manifest["key"]
    columns = here.columns()
    assert len(columns["sample_id"]) == 11
    for name, column in there.columns().items():
        np.testing.assert_array_equal(column, columns[name], err_msg=name)
    np.testing.assert_array_equal(there.logits(), here.logits())
    assert not list((several / "records").glob("*.shard"))


def test_two_ranks_in_one_task_are_refused_before_a_pass(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    ended = step(
        slurm, "-n1", "evaluate.py", *ELEVEN, "trainer.devices=2", f"results_dir={tmp_path}"
    )
    assert ended.returncode == 2, ended.stderr
    assert "srun has started 1 processes on 1 nodes" in ended.stderr
    assert "ntasks_per_node=2" in ended.stderr
    assert not (tmp_path / "records").exists()


def test_a_rank_that_dies_is_missed_by_the_others(slurm: dict[str, str], tmp_path: Path) -> None:
    layout = ("--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=0")
    ended = step(slurm, *layout, "-m", "tests.cluster.dying_rank", str(tmp_path))
    late = time.time() - float((tmp_path / "died").read_text())
    assert ended.returncode != 0
    assert late < A_MINUTE
    assert re.search("Connection (closed|reset) by peer", ended.stderr)  # reset: bytes were unread
    assert list_records(Layout(tmp_path)) == []


def test_a_rank_that_dies_takes_a_job_with_it_that_would_wait_for_ever(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    app = SmallApp(tmp_path, slurm)
    two = "hydra.launcher.options.ntasks_per_node=2"
    ended = app.typed("mode=cluster", "does=lose", two, "hydra.launcher.poll_seconds=1")
    late = time.time() - app.times("started")["a-none"]
    assert ended.returncode in (137, 143)  # the other one may have told that it was ended
    assert "rank 1: " in ended.stderr
    assert late < A_MINUTE


def step(slurm: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """`srun ... python ...`: the options of srun stand in front."""
    at = next(i for i, word in enumerate(words) if word in ("-m", "evaluate.py"))
    return subprocess.run(
        ["srun", *words[:at], sys.executable, *words[at:]],
        env={**os.environ, **slurm},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
