"""Jobs that SLURM ends before their time, and a login process that is killed.

A job `again` commits a cell and waits to be stopped; started again, it finds the cell and ends.
Nothing depends on when it is stopped.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from cluster import manifest as manifests
from store.cells import list_cells
from store.layout import Layout
from tests.cluster.small_app import SmallApp, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster, not two

AS_NAMED = ("mode=cluster", "does=${model_name}", "hydra.launcher.poll_seconds=1")
ONE_MINUTE = ("hydra.launcher.options.time=1", "hydra.launcher.options.signal_delay_s=10")


def requeues(app: SmallApp) -> dict[str, int]:
    """Model -> how often the table says that its job went back into the queue."""
    table = app.cluster("status").stdout
    rows = [line for line in table.splitlines() if "model_name=" in line]
    return {
        line.split("model_name=")[1].split()[0]: int((re.findall(r"(\d+)x", line) or [0])[0])
        for line in rows
    }


def test_a_job_over_its_time_limit_goes_on_from_its_cells_and_not_for_ever(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    app, bounded = SmallApp(tmp_path / "1", slurm), SmallApp(tmp_path / "2", slurm)
    goes_on = app.start("-m", *AS_NAMED, *ONE_MINUTE, "model_name=again,end")
    ended = bounded.typed(
        *("-m", *AS_NAMED, *ONE_MINUTE, "model_name=wait,end", "hydra.launcher.max_requeues=0")
    )
    told, errors = goes_on.communicate(timeout=600)

    assert goes_on.returncode == 0, errors
    assert "2 of 2 done" in told
    assert len((app.results / "again-none.first").read_text().splitlines()) == 1
    cells = list_cells(Layout(app.results), "again-none")
    assert [cell.measurement for cell in cells] == ["first", "m"]
    count = requeues(app)
    assert 1 <= count["again"] <= 3
    assert count["end"] == 0
    assert app.starts()["end-none"] == 1

    assert ended.returncode == 1
    assert "stopped by SLURM 1 times, max_requeues allows 0 requeues" in ended.stderr
    states = {job.overrides[-1]: job.state for job in manifests.read(bounded.sweeps()[0]).jobs}
    assert sorted(states.values()) == ["done", "failed"]
    assert bounded.starts() == {"end-none": 1, "wait-none": 1}


def test_a_preempted_sweep_is_followed_again_after_its_login_process_was_killed(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    app = SmallApp(tmp_path, slurm)
    partition = "hydra.launcher.options.partition=low"
    watching = app.start("-m", *AS_NAMED, partition, "model_name=again,end")
    until(lambda: (app.results / "again-none.first").exists() and "end-none" in app.times("ended"))
    watching.kill()
    watching.communicate()

    (sweep,) = app.sweeps()
    again = next(job for job in manifests.read(sweep).jobs if "model_name=again" in job.overrides)
    node = asked(slurm, "squeue", "--noheader", "--format=%N", f"--jobs={again.slurm}")
    whole = ("--nodes=1", "--ntasks=2", f"--nodelist={node}", "--partition=high")
    asked(slurm, "sbatch", *whole, "--output=/dev/null", "--wrap=true")

    attached = app.cluster("attach")
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert "2 of 2 done" in attached.stdout
    (log,) = (sweep / "logs").glob(f"{again.slurm}_0_log.err")  # SLURM requeues by itself later
    assert "Caught signal SIGUSR2" in log.read_text()
    assert app.starts() == {"again-none": 2, "end-none": 1}
    assert len((app.results / "again-none.first").read_text().splitlines()) == 1
    count = requeues(app)
    assert count["again"] >= 1
    assert count["end"] == 0
    assert {job.state for job in manifests.read(sweep).jobs} == {"done"}


def asked(slurm: dict[str, str], *command: str) -> str:
    """What a command of SLURM prints."""
    answer = subprocess.run(
        command, env={**os.environ, **slurm}, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()
