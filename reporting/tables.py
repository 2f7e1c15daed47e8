"""The tables people see: all runs of a store, or one run beside its baseline."""

import json
from collections.abc import Collection
from typing import Any

from core.estimate import Estimate
from reporting.compare import NOT_APPLICABLE, Comparison, Row, compare
from reporting.recipes import recipe_text
from reporting.render import Format, render
from reporting.screen import estimate_cells, row_cells, show_comparison, show_results
from store.layout import Layout
from store.query import connect

RESULT_COLUMNS = (
    "run_id",
    "model",
    "compressor",
    "recipe",
    "baseline",
    "name",
    "value",
    "low",
    "high",
    "n",
    "unit",
    "better",
    "version",
    "status",
)

# low and high are of the difference; of the number itself where it belongs to the pair as a whole.
PAIR_COLUMNS = (
    "name",
    "baseline",
    "compressed",
    "difference",
    "low",
    "high",
    "ratio",
    "n",
    "unit",
    "better",
    "verdict",
    "status",
)

# In LaTeX as on the screen: scaled, with units; the interval is of the difference, or of the number
# where it belongs to the pair as a whole.
PAPER_COLUMNS = (
    "name",
    "baseline",
    "compressed",
    "difference",
    "95 % interval",
    "n",
    "unit",
    "verdict",
)

# A baseline stands directly before what was made of it; values keep the order of their cells.
ALL_RESULTS = f"""
SELECT {", ".join(f"results.{name}" for name in RESULT_COLUMNS if name != "recipe")},
    results.reason, runs.lineage
FROM results LEFT JOIN runs USING (run_id)
ORDER BY coalesce(results.baseline, run_id), results.baseline IS NOT NULL, run_id, results.rowid
"""


def results_table(layout: Layout, kind: Format = "table", *, color: bool = False) -> str:
    """Every value of every run of a store; what failed or does not apply is a row too.

    Args:
        layout: The store.
        kind: How the rows are written; all but `table` have the columns `RESULT_COLUMNS`.
        color: Write colours, in a `table`.

    Raises:
        LookupError: The store is empty or not there.
    """
    found = connect(layout).execute(ALL_RESULTS)
    names = [column[0] for column in found.description or ()]
    rows = [_with_recipe(dict(zip(names, row, strict=True))) for row in found.fetchall()]
    if not rows:
        raise LookupError(
            f"there are no results in {layout.root}: run python evaluate.py first, or name "
            "another store with results_dir="
        )
    if kind == "table":
        return show_results(rows, color=color)
    return render(rows, RESULT_COLUMNS, kind)


def _with_recipe(row: dict[str, Any]) -> dict[str, Any]:
    lineage = row.pop("lineage")
    return {**row, "recipe": "" if lineage is None else recipe_text(json.loads(lineage))}


def comparison(
    layout: Layout,
    run_id: str,
    kind: Format = "table",
    *,
    measurements: Collection[str] | None = None,
    color: bool = False,
) -> str:
    """A run beside its baseline; a run without one by itself.

    Args:
        layout: The store.
        run_id: The compressed model's run, or a baseline's.
        kind: How the rows are written; `latex` has the columns `PAPER_COLUMNS`, for a paper, and
            all others but `table` have `PAIR_COLUMNS`.
        measurements: Library entries to show; None for all.
        color: Write colours, in a `table`.

    Raises:
        LookupError: There is no such run.
    """
    found = compare(layout, run_id, measurements=measurements)
    if kind == "table":
        return show_comparison(found, color=color)
    if kind == "latex":
        return render(_paper_rows(found), PAPER_COLUMNS, kind, right=PAPER_COLUMNS[1:6])
    return render([_pair(row) for row in (*found.rows, *found.paired)], PAIR_COLUMNS, kind)


def _paper_rows(found: Comparison) -> list[dict[str, Any]]:
    """Rows of the table as it is read, numbers of the pair in the column of the compressed."""
    cells = [row_cells(row) for row in found.rows]
    for row in found.paired:
        value, interval, n, unit = estimate_cells(row.values[-1])
        cells.append([row.name, "", value, "", interval, n, unit, ""])
    return [dict(zip(PAPER_COLUMNS, texts, strict=True)) for texts in cells]


def _pair(row: Row) -> dict[str, Any]:
    measured = row.difference
    if row.change is None and isinstance(row.compressed, Estimate):
        measured = row.compressed
    sides = (row.baseline, row.compressed)
    status = "not_applicable" if row.compressed == NOT_APPLICABLE else "done"
    return {
        "name": row.name,
        "baseline": _number(row.baseline),
        "compressed": _number(row.compressed),
        "difference": None if row.change is None else float(row.change),
        "low": None if measured is None else measured.low,
        "high": None if measured is None else measured.high,
        "ratio": row.ratio,
        "n": row.n,
        "unit": row.unit,
        "better": row.better,
        "verdict": row.verdict,
        "status": "failed" if "failed" in sides else status,
    }


def _number(side: Estimate | str) -> float | None:
    return float(side) if isinstance(side, Estimate) else None
