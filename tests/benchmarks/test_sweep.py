"""The benchmark of sweeps runs and prints every time."""

import pytest

from tests.benchmarks.scripts import script

bench = script("sweep")


def test_an_argument_nobody_knows_shows_those_there_are() -> None:
    answer = bench("job=10")
    assert answer.returncode == 1
    assert "jobs=20" in answer.stderr


@pytest.mark.slow
def test_every_time_is_printed() -> None:
    answer = bench("jobs=2", "runs=3", "values=1000")
    assert answer.returncode == 0, answer.stderr
    for name in (
        "typed by hand",
        "2 jobs, 2 at once",
        "beyond the evaluation",
        "nothing left to do",
        "status of 2 jobs",
        "reading 3 runs from 9 files",
        "reading 1000 values from 102 files",
    ):
        assert name in answer.stdout
