"""The benchmark of a compression runs and prints every ratio."""

import pytest

from tests.benchmarks.scripts import script

bench = script("compress")


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
