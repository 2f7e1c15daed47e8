"""The benchmark of the measurements runs and prints every ratio."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "measure.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_argument_nobody_knows_shows_those_there_are() -> None:
    answer = bench("sample=10")
    assert answer.returncode == 1
    assert "samples=50000" in answer.stderr


@pytest.mark.slow
def test_every_ratio_is_printed() -> None:
    answer = bench("samples=300", "classes=10", "rounds=1")
    assert answer.returncode == 0, answer.stderr
    for name in (
        "columns and values / torchmetrics",
        "with all intervals / torchmetrics",
        "values again / torchmetrics",
        "selective",
        "peak memory of everything",
        "peak memory of torchmetrics",
    ):
        assert name in answer.stdout
