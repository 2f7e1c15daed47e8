"""Pieces of HTML: whatever comes from a store is text, and is escaped here and nowhere else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any


class Html(str):
    """Text that is HTML already; any other text is escaped when it is put into HTML."""

    __slots__ = ()


def html_of(what: object) -> str:
    """What stands in the page for a value.

    Example:
        >>> html_of("a < b"), html_of(Html("<br>"))
        ('a &lt; b', '<br>')
    """
    return what if isinstance(what, Html) else escape(str(what))


def tag(name: str, *inside: object, **attributes: object) -> Html:
    """An element; attributes that are None are left out, `class_` and `aria_label` are allowed.

    Example:
        >>> tag("a", "x & y", href="#top", class_="link", hidden=None)
        '<a href="#top" class="link">x &amp; y</a>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{''.join(map(html_of, inside))}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one behind the other, a line each."""
    return Html("\n".join(map(html_of, parts)))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    caption: str,
    numeric: Sequence[str] = (),
) -> Html:
    """A table whose rows have their heading in the first cell; scrolls where it is too wide.

    Args:
        columns: Headings.
        rows: Cells; a row of a single cell is a heading across the table.
        caption: What the table holds.
        numeric: Columns whose cells stand at the right.
    """
    kinds = ["number" if column in numeric else None for column in columns]
    head = [
        tag("th", column, scope="col", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    body = [_row(row, kinds) for row in rows]
    inside = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *head)),
        Html(f"<tbody>{''.join(body)}</tbody>"),
    )
    return tag("div", inside, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _row(cells: Sequence[object], kinds: Sequence[str | None]) -> Html:
    if len(cells) == 1:
        heading = tag("th", cells[0], colspan=len(kinds), scope="colgroup", class_="group")
        return tag("tr", heading)
    first, *rest = cells
    others = [tag("td", cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)]
    return tag("tr", tag("th", first, scope="row"), *others)


def details(summary: str, *inside: object) -> Html:
    """What is folded away until it is asked for."""
    return tag("details", tag("summary", summary), *inside)


def definitions(items: Iterable[tuple[object, object]]) -> Html:
    """A list of words and what stands behind them."""
    return tag("dl", *(tag("div", tag("dt", word), tag("dd", text)) for word, text in items))


def script_json(data: Mapping[str, Any]) -> Html:
    r"""JSON that can stand inside a script element: nothing in it can end the element.

    Example:
        >>> script_json({"name": "</script>&"})
        '{"name": "\\u003c/script\\u003e\\u0026"}'
    """
    text = json.dumps(data, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)
