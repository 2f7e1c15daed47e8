from typing import Any

from evaluation.plan import Plan, PlannedCell, plan_tables


def cell(run_id: str, name: str, state: Any, reason: str = "") -> PlannedCell:
    measurement: Any = None  # is not looked at
    return PlannedCell(
        run_id=run_id, name=name, measurement=measurement, key="", state=state, reason=reason
    )


def test_measurements_of_one_state_and_reason_share_a_row() -> None:
    cells = [
        cell("none", "accuracy", "to measure"),
        cell("none", "flips", "not applicable", "no baseline"),
        cell("none", "nll", "to measure"),
        cell("level", "accuracy", "committed"),
    ]
    table = plan_tables(Plan(passes=[], cells=cells))[1]
    columns = [list(column.cells) for column in table.columns]
    assert list(zip(*columns, strict=True)) == [
        ("none", "to measure", "accuracy, nll"),
        ("none", "not applicable: no baseline", "flips"),
        ("level", "committed", "accuracy"),
    ]
