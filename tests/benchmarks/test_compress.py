"""The benchmark of a compression runs and prints every ratio."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "compress.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_argument_nobody_knows_shows_those_there_are() -> None:
    answer = bench("round=10")
    assert answer.returncode == 1
    assert "rounds=2" in answer.stderr


@pytest.mark.slow
def test_every_ratio_is_printed() -> None:
    answer = bench("network=resnet10t", "size=64", "rounds=1")
    assert answer.returncode == 0, answer.stderr
    for name in (
        "compress / torch-pruning",
        "compress / (torch-pruning + bare program)",
        "the same recipe again",
    ):
        assert name in answer.stdout
