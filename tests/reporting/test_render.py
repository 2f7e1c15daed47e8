import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporting.render import Format, render, require_format

COLUMNS = ["name", "value", "n"]
ROW = {"name": "a_b", "value": 1 / 3, "n": None}

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
rows = st.lists(
    st.fixed_dictionaries(
        {
            "name": texts,
            "value": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "n": st.none() | st.integers(),
        }
    )
)


@given(rows)
def test_json_holds_every_digit(given_rows: list[dict[str, object]]) -> None:
    assert json.loads(render(given_rows, COLUMNS, "json")) == given_rows


@given(rows)
def test_csv_holds_every_digit_and_nothing_where_there_is_nothing(
    given_rows: list[dict[str, object]],
) -> None:
    read = list(csv.DictReader(io.StringIO(render(given_rows, COLUMNS, "csv"), newline="")))
    values = [None if row["value"] == "" else float(row["value"]) for row in read]
    assert values == [row["value"] for row in given_rows]
    assert [row["name"] for row in read] == [row["name"] for row in given_rows]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("csv", "name,value,n\na_b,0.3333333333333333,\n"),
        ("markdown", "| name | value | n |\n| --- | --- | --- |\n| a_b | 0.333333 |  |\n"),
        (
            "latex",
            "% \\usepackage{booktabs}\n"
            "\\begin{tabular}{lrl}\n\\toprule\nname & value & n \\\\\n\\midrule\n"
            "a\\_b & 0.333333 &  \\\\\n\\bottomrule\n\\end{tabular}\n",
        ),
    ],
)
def test_a_row_is_written_as(kind: Format, expected: str) -> None:
    assert render([ROW], COLUMNS, kind) == expected


def test_what_would_end_a_cell_is_escaped_in_markdown() -> None:
    text = render([{**ROW, "name": "a|b\nc"}], COLUMNS, "markdown")
    assert text.splitlines()[2] == "| a\\|b c | 0.333333 |  |"


def test_what_has_a_meaning_in_latex_is_escaped() -> None:
    text = render([{**ROW, "name": "50% & $x_1$ #{~^\\"}], COLUMNS, "latex")
    escaped = r"50\% \& \$x\_1\$ \#\{\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escaped in text


def test_not_a_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        render([{**ROW, "value": math.nan}], COLUMNS, "json")


def test_a_format_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="unknown format 'latx', did you mean 'latex'"):
        require_format("latx")


def test_a_table_for_the_screen_is_not_made_here() -> None:
    with pytest.raises(ValueError, match="expected a format for programs or documents"):
        render([ROW], COLUMNS, "table")
