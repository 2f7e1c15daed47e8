"""An array of many jobs on a real SLURM; benchmarks/sweep.py runs a thousand."""

from pathlib import Path

import pytest

from cluster import manifest as manifests
from store.layout import Layout
from store.query import connect
from tests.cluster.small_app import SmallApp

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("slurm")]  # one cluster, not two

JOBS = 30


def test_jobs_of_one_array_neither_collide_nor_lose_a_cell(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    app = SmallApp(tmp_path, slurm)
    models = [f"m{number}" for number in range(JOBS)]
    line = ("-m", "mode=cluster", f"model_name={','.join(models)}", "hydra.launcher.poll_seconds=1")
    ended = app.typed(*line)
    assert ended.returncode == 0, ended.stderr
    jobs = manifests.read(app.sweeps()[0]).jobs
    assert [job.state for job in jobs] == ["done"] * JOBS
    assert len({job.slurm for job in jobs}) == JOBS
    assert app.starts() == {f"{model}-none": 1 for model in models}
    found = connect(Layout(app.results)).sql("SELECT run_id, status FROM cells").fetchall()
    assert sorted(found) == sorted((f"{model}-none", "done") for model in models)
    assert len(list((app.results / "receipts").glob("*.json"))) == JOBS
