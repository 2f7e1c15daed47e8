"""Long lists for a terminal: rows under headings, in columns."""

import sys
from collections.abc import Collection, Iterable, Sequence

PIPE_WIDTH = 200
"""Of a table where no terminal says its own."""


def listing(
    columns: Sequence[str],
    sections: Iterable[tuple[str, Iterable[Sequence[str]]]],
    *,
    unbroken: Collection[str] = (),
) -> str:
    """A table as wide as the terminal, or with wide lines where the output is none.

    Args:
        columns: Their heads.
        sections: Heading -> rows, a text for each column.
        unbroken: Columns whose texts stay on one line.
    """
    from rich.console import Console  # only where something is shown
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, no_wrap=column in unbroken)
    for heading, rows in sections:
        shown.add_row(Text(heading.upper(), style="bold cyan"))
        for row in rows:
            shown.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with console.capture() as captured:
        console.print(shown)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
