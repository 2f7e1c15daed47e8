"""The benchmark of latency runs and prints every ratio."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "latency.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_argument_nobody_knows_shows_those_there_are() -> None:
    answer = bench("round=10")
    assert answer.returncode == 1
    assert "rounds=20" in answer.stderr


@pytest.mark.slow
def test_every_ratio_is_printed() -> None:
    answer = bench("network=cifar_resnet8", "size=32", "rounds=1", "openvino=false")
    assert answer.returncode == 0, answer.stderr
    for name in (
        "flags:",
        "x fewer",
        "masks alone, eager",
        "removal, eager",
        "removal, onnxruntime",
        "int8, onnxruntime",
        "removal and int8, onnxruntime",
        "file of int8 / file of floats",
    ):
        assert name in answer.stdout
