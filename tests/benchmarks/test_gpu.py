"""The benchmark of GPUs runs on any device, and says where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments]
    unseen = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=unseen)


def test_an_argument_nobody_knows_shows_those_there_are() -> None:
    answer = bench("image=10")
    assert answer.returncode == 1
    assert "images=8192" in answer.stderr


@pytest.mark.slow
def test_without_a_gpu_it_says_so() -> None:
    answer = bench()
    assert answer.returncode == 0
    assert "no GPU is visible" in answer.stdout


@pytest.mark.slow
def test_every_rate_is_printed() -> None:
    few = ("images=3", "files=3", "batch_size=2", "workers=0", "rounds=1", "compiled=false")
    answer = bench("device=cpu", "network=resnet18", "size=32", *few)
    assert answer.returncode == 0, answer.stderr
    for name in ("bare loop", "harness, the same images", "0.97", "file of pixels", "JPEGs"):
        assert name in answer.stdout
