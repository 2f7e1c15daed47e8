import importlib
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def criteria() -> ModuleType:
    return importlib.import_module("benchmarks.criteria")


def outcome(criteria: ModuleType, name: str, seed: int, test: float) -> Any:
    return criteria.Outcome(
        criterion=name,
        seed=seed,
        epochs=3,
        sparsity=0.3125,
        macs_ratio=2.105,
        params=128017,
        score=0.2,
        test=test,
    )


def test_a_criterion_beats_chance_by_more_than_the_larger_deviation(criteria: ModuleType) -> None:
    # deviations: 0.01 of random_filter, 0.002 of the others; means 0.80, 0.82 and 0.809
    values = {
        "random_filter": (0.79, 0.80, 0.81),
        "fpgm": (0.818, 0.820, 0.822),
        "slim": (0.807, 0.809, 0.811),
    }
    found = [
        outcome(criteria, name, seed, test)
        for name, tests in values.items()
        for seed, test in enumerate(tests)
    ]
    rows = criteria.table(found).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["fpgm", "slim", "random_filter"]
    assert [row.split("|")[5].strip() for row in rows] == [
        "0.8200 ± 0.0020 (n=3)",
        "0.8090 ± 0.0020 (n=3)",
        "0.8000 ± 0.0100 (n=3)",
    ]
    assert [row.split("|")[6].strip() for row in rows] == [
        "+0.0200",
        "+0.0090, within the deviation",
        "",
    ]
