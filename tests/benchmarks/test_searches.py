import importlib
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def searches() -> ModuleType:
    return importlib.import_module("benchmarks.searches")


def outcome(searches: ModuleType, arm: str, seed: int, right: str) -> Any:
    chosen = "uniform" if arm == "uniform" else "net_adapt"
    return searches.Outcome(
        arm=arm, chosen=chosen, seed=seed, macs=2_000_000, params=1000, score=0.5, right=right
    )


def test_a_search_is_paired_with_the_control_of_its_seed(searches: ModuleType) -> None:
    # seed 0: 6 mended, none broken: p = 2 / 2^6; seed 1: one mended, one broken: p = 1
    found = [
        outcome(searches, "uniform", 0, "1100000000"),
        outcome(searches, "macs", 0, "1111111100"),
        outcome(searches, "uniform", 1, "1111000000"),
        outcome(searches, "macs", 1, "1110100000"),
    ]
    rows = [[cell.strip() for cell in row.split("|")] for row in searches.table(found).splitlines()]
    assert rows[2][1:7] == ["uniform", "2.0 M", "1,000", "0.5000", "0.3000 ± 0.1414 (n=2)", ""]
    assert rows[3][1] == "net_adapt, equal macs"
    assert rows[3][5:7] == ["0.6000 ± 0.2828 (n=2)", "+0.3000 ± 0.4243 (n=2); p 0.031, 1"]
