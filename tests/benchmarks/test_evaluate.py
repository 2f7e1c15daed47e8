"""The benchmark of the harness runs and prints every ratio."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "evaluate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
