"""The benchmark of GPUs runs on any device, and says where there is none."""

import pytest

from tests.benchmarks.scripts import script

bench = script("gpu", CUDA_VISIBLE_DEVICES="")


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
