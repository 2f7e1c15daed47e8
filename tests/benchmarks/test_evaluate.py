"""The benchmark of the harness runs and prints every ratio."""

from pathlib import Path

import pytest

from tests.benchmarks.scripts import script

bench = script("evaluate")


def test_without_data_it_says_so() -> None:
    answer = bench()
    assert answer.returncode == 0
    assert "needs data_dir=PATH" in answer.stdout


@pytest.mark.slow
def test_every_ratio_is_printed(data_dir: Path) -> None:
    answer = bench(f"data_dir={data_dir}", "limit=300", "rounds=1")
    assert answer.returncode == 0, answer.stderr
    for name in (
        "harness / bare loop",
        "12 x trainer.test / harness",
        "cached / harness",
        "peak memory",
        "evaluate.py / bare Hydra app",
    ):
        assert name in answer.stdout
