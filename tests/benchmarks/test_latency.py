"""The benchmark of latency runs and prints every ratio."""

import pytest

from tests.benchmarks.scripts import script

bench = script("latency")


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
