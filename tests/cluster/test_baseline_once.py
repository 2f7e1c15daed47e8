"""Variants of one baseline, evaluated side by side by processes of this machine."""

import re
from pathlib import Path

import pytest

from cluster import manifest as manifests
from store.layout import Layout
from store.records import list_records
from tests.cluster.small_app import Project

VARIANTS = (0.1, 0.3, 0.5, 0.7)
QUICK = ("measurements=[accuracy]", "limit_samples=20", "threads=1", "wandb.mode=disabled")


@pytest.mark.slow
def test_a_sweep_of_variants_looks_at_their_baseline_once(tmp_path: Path) -> None:
    project = Project(tmp_path)
    line = ("-m", "mode=local", "hydra.launcher.n_jobs=2", "hydra.launcher.poll_seconds=1")
    strengths = f"compressor.sparsity={','.join(map(str, VARIANTS))}"
    ended = project.typed(*line, *QUICK, "compressor=level", strengths)
    assert ended.returncode == 0, ended.stderr
    (sweep,) = project.sweeps()
    assert [job.wave for job in manifests.read(sweep).jobs] == [0, 1, 1, 1]
    passes = [
        int(count)
        for log in (sweep / "logs").iterdir()
        for count in re.findall(r"(\d+) forward passes", log.read_text())
    ]
    assert sorted(passes) == [1, 1, 1, 2]  # the first one looks at the baseline too
    assert len(list(list_records(Layout(project.results)))) == 1 + len(VARIANTS)
