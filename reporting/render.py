"""Rows as text for programs and for documents."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from core.errors import pick

Format = Literal["table", "csv", "json", "markdown", "latex"]

Record = Mapping[str, Any]

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def require_format(name: str) -> Format:
    """The format of that name.

    Raises:
        LookupError: There is none; the text names those there are.
    """
    return pick("format", name, {option: option for option in get_args(Format)})


def render(
    rows: Sequence[Record], columns: Sequence[str], kind: Format, *, right: Sequence[str] = ()
) -> str:
    """Rows in a format for programs (every digit) or documents (six digits); ends with a newline.

    Args:
        rows: Values by column; None where there is none.
        columns: Their order.
        kind: Any format but `table`.
        right: Columns that LaTeX sets to the right beside those that hold numbers.
    """
    cells = [[row[column] for column in columns] for row in rows]
    if kind == "csv":
        return _csv(columns, cells)
    if kind == "json":
        records = [dict(zip(columns, row, strict=True)) for row in cells]
        return json.dumps(records, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    texts = [[_short(value) for value in row] for row in cells]
    if kind == "markdown":
        return _markdown(columns, texts)
    if kind == "latex":
        numeric = [column in right or _is_numeric(rows, column) for column in columns]
        return _latex(columns, texts, numeric)
    raise ValueError(f"expected a format for programs or documents, got {kind!r}")


def _csv(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in cells)
    return stream.getvalue()


def _markdown(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *([_one_line(text) for text in row] for row in texts)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _one_line(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _latex(columns: Sequence[str], texts: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    alignment = "".join("r" if right else "l" for right in numeric)
    rows = [" & ".join(text.translate(LATEX) for text in row) for row in [columns, *texts]]
    head, *body = [f"{row} \\\\\n" for row in rows]
    begin = f"\\begin{{tabular}}{{{alignment}}}\n\\toprule\n"
    return (
        f"% \\usepackage{{booktabs}}\n{begin}{head}\\midrule\n{''.join(body)}\\bottomrule\n"
        "\\end{tabular}\n"
    )


def _short(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_numeric(rows: Sequence[Record], column: str) -> bool:
    return any(isinstance(row[column], int | float) for row in rows)
