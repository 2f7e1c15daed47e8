"""Sweeps on a real SLURM of two nodes."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import manifest as manifests
from store.layout import Layout
from store.runs import list_runs
from tests.cluster.small_app import Project, SmallApp, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster, not two

QUICKLY = "hydra.launcher.poll_seconds=1"
SIX = (
    *("mode=cluster", "model=digits_cnn,cifar_resnet20", "model.pretrained=false"),
    *("compressor=none,level,l1_filter", "measurements=[accuracy]", "limit_samples=20"),
    *("tuning.samples=20", "wandb.mode=disabled", QUICKLY),
)


@pytest.fixture
def app(slurm: dict[str, str], tmp_path: Path) -> SmallApp:
    return SmallApp(tmp_path, slurm)


def says(slurm: dict[str, str], *command: str) -> list[str]:
    answer = subprocess.run(
        command, env={**os.environ, **slurm}, capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


def test_two_models_times_three_compressors_give_six_runs_and_one_table(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    project = Project(tmp_path, slurm)
    ended = project.typed("-m", *SIX)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("┏") == 1
    assert "6 of 6 done" in ended.stdout
    runs = list_runs(Layout(project.results))
    assert len({(run.model, run.compressor) for run in runs}) == len(runs) == 6
    assert len(list((project.results / "records").iterdir())) == 6
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project.folder, text=True)
    states = {(run.provenance["git_hash"], run.provenance["git_dirty"]) for run in runs}
    assert states == {(head.strip(), False)}

    again = project.typed("-m", *SIX)
    assert again.returncode == 0, again.stderr
    assert "6 of 6 jobs are committed already, 0 to start" in again.stderr
    assert {job.slurm for job in manifests.read(project.sweeps()[-1]).jobs} == {None}


def test_a_job_that_raises_and_one_that_is_killed_stop_no_other(
    app: SmallApp, slurm: dict[str, str]
) -> None:
    line = ("mode=cluster", "does=end,raise,die", "model_name=a", QUICKLY)
    ended = app.typed("-m", *line)
    assert ended.returncode == 137
    assert "ZeroDivisionError: the reason" in ended.stderr
    assert "in deepest_reason" in ended.stderr
    assert "killed by SIGKILL" in ended.stderr
    logs = [text.split("log: ")[1] for text in ended.stderr.splitlines() if "log: " in text]
    assert "the reason" in Path(logs[0]).read_text()
    assert len(logs) == 2
    jobs = manifests.read(app.sweeps()[0]).jobs
    assert [job.state for job in jobs] == ["done", "failed", "failed"]
    array = str(jobs[0].slurm).partition("_")[0]
    ask = ("sacct", "-X", "-n", "-P", "-o", "State", "-j", array)
    until(lambda: sorted(says(slurm, *ask)) == ["COMPLETED", "FAILED", "FAILED"])

    app.typed("-m", *line)
    second = manifests.read(app.sweeps()[1]).jobs
    assert [job.state for job in second] == ["committed", "failed", "failed"]


def test_the_failure_of_one_rank_fails_the_job(app: SmallApp) -> None:
    ranks = "hydra.launcher.options.ntasks_per_node=2"
    ended = app.typed("mode=cluster", "does=rank", ranks, QUICKLY)
    assert ended.returncode == 1
    assert "rank 1: exit code 1" in ended.stderr


def test_a_sweep_is_left_edited_requeued_and_followed_again(
    app: SmallApp, slurm: dict[str, str]
) -> None:
    line = ("mode=cluster", "does=wait", "compressor=none,level", QUICKLY)
    left = app.typed("-m", *line, "hydra.launcher.detach=true")
    assert left.returncode == 0, left.stderr
    until(lambda: app.starts() == {"a-none": 1})
    (app.folder / "job.py").write_text("raise SystemExit('the tree of now')\n")
    sent = manifests.read(app.sweeps()[0])
    unnoted = {job.id: replace(job, slurm=None, state="waiting") for job in sent.jobs}
    manifests.write(sent.with_jobs(unnoted))  # as if the sender had been killed before that
    status = app.cluster("status")
    assert "0 of 2 done, 1 running, 1 pending, 0 failed" in status.stdout
    found = [job.slurm for job in manifests.read(app.sweeps()[0]).jobs]
    assert found == [job.slurm for job in sent.jobs]

    (baseline, _) = manifests.read(app.sweeps()[0]).jobs
    says(slurm, "scancel", "--signal=USR2", str(baseline.slurm))  # as before a time limit
    until(lambda: app.starts() == {"a-none": 2})
    app.go()
    attached = app.cluster("attach")
    assert attached.returncode == 0, attached.stdout
    assert "2 of 2 done" in attached.stdout
    assert "requeued 1x" in app.cluster("status").stdout
    assert app.times("ended")["a-none"] <= app.times("started")["a-level"]


def test_an_interrupted_watch_leaves_the_jobs_which_can_be_cancelled_later(
    app: SmallApp, slurm: dict[str, str]
) -> None:
    watching = app.start("mode=cluster", "does=wait", QUICKLY)
    assert any(line.startswith("sweep ") for line in watching.stderr or ())  # all is sent
    until(lambda: app.starts() == {"a-none": 1})
    watching.send_signal(signal.SIGINT)
    _, told = watching.communicate(timeout=100)
    assert watching.returncode == 0
    assert "detached; the jobs go on" in told
    again = app.start("mode=cluster", "does=wait", QUICKLY)
    until(lambda: len(app.sweeps()) == 2 and (app.sweeps()[1] / manifests.NAME).exists())
    cancelled = app.cluster("cancel")
    assert "1 cancelled" in cancelled.stdout
    again.communicate(timeout=100)
    assert again.returncode != 0
    assert app.starts() == {"a-none": 1}  # the second command followed the job of the first
    first, second = (json.loads((path / manifests.NAME).read_text()) for path in app.sweeps())
    assert first["jobs"][0]["slurm"] == second["jobs"][0]["slurm"]
