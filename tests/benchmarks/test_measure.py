"""The benchmark of the measurements runs and prints every ratio."""

import pytest

from tests.benchmarks.scripts import script

bench = script("measure")


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
