"""Tables for a terminal: nothing is wrapped or cut, colours only where they are asked for."""

import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from core.estimate import Estimate
from reporting.compare import NOT_APPLICABLE, Comparison, Row
from reporting.numbers import scale_of
from reporting.sheets import Sheet

NOTE_WIDTH = 100

COLORS = {
    "better": "green",
    "worse": "red",
    "failed": "red",
    "no difference": "dim",
    "unresolved": "dim",
    NOT_APPLICABLE: "dim",
}

SMALL = 1000
"""Below this many samples the text under a table warns of wide intervals."""

INTERVALS = (
    "[low, high] is a 95 % interval. It speaks of the sampling of the test set alone: what another "
    "test set of this size would give, not what another training would. Fractions are shown in "
    "percent, their differences in percentage points (pt)."
)

VERDICTS = (
    "better, worse: the interval of the difference, paired sample by sample, does not hold 0; "
    "unresolved: it does, so this many samples cannot tell; no difference: nothing changed. Each "
    "row is judged by itself: of twenty without any effect one is expected to show one."
)

RATIO = "0.50x: compressed over baseline."


def show_results(rows: Sequence[dict[str, Any]], *, color: bool) -> str:
    """Values of all runs, one block a run.

    Args:
        rows: Columns of the results table and `reason`; rows of a run stand together.
        color: Write colours.
    """
    columns = ("name", "value", "95 % interval", "n", "unit", "better", "version", "status")
    table = _table(*columns, right=("value", "95 % interval", "n", "version"))
    for run_id, group in groupby(rows, key=lambda row: row["run_id"]):
        values = list(group)
        table.add_row(Text(run_id, style="bold"))
        if values[0]["baseline"]:
            table.add_row(Text(f"  of {values[0]['baseline']}", style="dim"))
        for row in values:
            _add(table, _result_cells(row))
        table.add_section()
    reasons = _grouped((row["status"], row["reason"], row["name"]) for row in rows)
    estimated = [row["n"] for row in rows if row["low"] is not None]
    return _text([table], [*reasons, *_legend(estimated)], color=color)


def show_comparison(found: Comparison, *, color: bool) -> str:
    """A run beside its baseline, then the numbers of the pair; or a run by itself."""
    parts: list[RenderableType] = []
    if found.baseline is None:
        parts += [Text(found.run.run_id, style="bold"), _values_table(found.paired)]
        missing = [row for row in found.rows if not row.values]
        parts += [_states_table(missing)] if missing else []
    else:
        parts += [_title("compressed", found.run.run_id), _title("baseline", found.baseline)]
        parts += ["", _rows_table(found.rows)] if found.rows else []
        heading = Text("the two models compared", style="bold")
        parts += ["", heading, _values_table(found.paired)] if found.paired else []
    estimates = [value for row in (*found.rows, *found.paired) for value in row.values]
    legend = _legend([value.n for value in estimates if value.low is not None])
    verdicts = [VERDICTS] if any(row.verdict for row in found.rows) else []
    ratios = [RATIO] if any(row.ratio is not None for row in found.rows) else []
    return _text(parts, [*found.notes, *legend, *verdicts, *ratios], color=color)


def show_sheets(sheets: Sequence[Sheet], notes: Sequence[str], *, color: bool) -> str:
    """Tables below each other, each under its title; every column in one scale."""
    parts: list[RenderableType] = []
    for sheet in sheets:
        parts += [Text(sheet.title, style="bold")] if sheet.title else []
        columns = [column for column in sheet.columns if column not in sheet.for_files]
        numeric = [sheet.is_numeric(column) for column in columns]
        titles = [sheet.title_of(column) for column in columns]
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for title, right in zip(titles, numeric, strict=True):
            table.add_column(title, justify="right" if right else "left", no_wrap=True)
        texts = [sheet.texts(column) for column in columns]
        for row in zip(*texts, strict=True):
            _add(table, row)
        parts += [table, ""]
    return _text(parts[:-1], notes, color=color)


def _title(role: str, run_id: str) -> Text:
    return Text.assemble((f"{role:<11}", "dim"), (run_id, "bold"))


def _rows_table(rows: Sequence[Row]) -> Table:
    columns = ("name", "baseline", "compressed", "difference", "95 % interval", "n", "unit")
    table = _table(*columns, "verdict", right=columns[1:6])
    for row in rows:
        _add(table, row_cells(row))
    return table


def row_cells(row: Row) -> list[str]:
    """Cells of both sides: name, baseline, compressed, difference, interval, n, unit, verdict."""
    scale = scale_of(row.unit, row.values)

    def shown(side: Estimate | str) -> str:
        return scale.show(side) if isinstance(side, Estimate) else side

    difference, interval = "", ""
    if row.ratio is not None:
        difference = f"{row.ratio:.2f}x"
    elif row.change is not None:
        step = f" {scale.step}" if scale.step != scale.unit else ""
        difference = f"{scale.show_change(row.change)}{step}"
    paired = row.difference
    if paired is not None and paired.low is not None and paired.high is not None:
        interval = scale.show_interval(paired.low, paired.high, change=True)
    sides = [shown(row.baseline), shown(row.compressed)]
    return [row.name, *sides, difference, interval, _count(row.n), scale.unit, row.verdict]


def _values_table(rows: Sequence[Row]) -> Table:
    columns = ("name", "value", "95 % interval", "n", "unit")
    table = _table(*columns, right=columns[1:4])
    for row in rows:
        _add(table, [row.name, *estimate_cells(row.values[-1])])
    return table


def _states_table(rows: Sequence[Row]) -> Table:
    table = _table("name", "status")
    for row in rows:
        _add(table, [row.name, str(row.compressed)])
    return table


def _result_cells(row: dict[str, Any]) -> list[str]:
    status = NOT_APPLICABLE if row["status"] == "not_applicable" else row["status"]
    if row["value"] is None:
        return [f"  {row['name']}", *[""] * 5, str(row["version"]), status]
    fields = {key: row[key] for key in ("n", "low", "high", "unit")}
    *cells, unit = estimate_cells(Estimate(row["value"], **fields))
    if unit == "%" and "_delta_" in row["name"]:
        unit = "pt"
    return [f"  {row['name']}", *cells, unit, row["better"], str(row["version"]), status]


def estimate_cells(estimate: Estimate) -> list[str]:
    """Value, interval, n, unit."""
    scale = scale_of(estimate.unit, [estimate])
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = scale.show_interval(estimate.low, estimate.high)
    return [scale.show(estimate), interval, _count(estimate.n), scale.unit]


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _legend(counts: Sequence[int | None]) -> list[str]:
    """What the intervals of a table mean; nothing where there is none."""
    if not counts:
        return []
    smallest = min((n for n in counts if n is not None), default=SMALL)
    if smallest >= SMALL:
        return [INTERVALS]
    return [INTERVALS, f"n = {smallest}: a small test split makes wide intervals."]


def _grouped(reasons: Iterable[tuple[str, str, str]]) -> list[str]:
    """Sentences `<status>: <names>: <reason>` of what is not done."""
    names: dict[tuple[str, str], list[str]] = {}
    for status, reason, name in reasons:
        if status != "done":
            names.setdefault((status.replace("_", " "), reason), []).append(name)
    return [f"{s}: {', '.join(dict.fromkeys(n))}: {reason}" for (s, reason), n in names.items()]


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return table


def _add(table: Table, cells: Iterable[str]) -> None:
    table.add_row(*(Text(cell, style=COLORS.get(cell, "")) for cell in cells))


def _text(parts: Sequence[RenderableType], notes: Sequence[str], *, color: bool) -> str:
    below = [Text(sentence, style="dim") for sentence in notes]
    lines = [_drawn(Group(*parts), width=10_000, color=color)] if parts else []
    lines += [_drawn(Group(*below), width=NOTE_WIDTH, color=color)] if below else []
    return "\n\n".join(lines) + "\n"


def _drawn(what: RenderableType, *, width: int, color: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        legacy_windows=False,
    )
    console.print(what)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
