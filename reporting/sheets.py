"""What is said over several runs, as tables: for a terminal, for programs, for documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reporting.numbers import Scale, scale_of


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table.

    Args:
        columns: Their order.
        rows: Values by column; None where there is none.
        title: Above it, in a terminal.
        titles: Shorter names of columns, for a terminal.
        units: Stored units of columns of numbers; they are shown in one scale.
        changes: Columns of differences, shown with their sign.
        for_files: Columns a terminal does not show.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    title: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    changes: frozenset[str] = frozenset()
    for_files: frozenset[str] = frozenset()

    def is_numeric(self, column: str) -> bool:
        """Whether numbers stand in a column."""
        return any(_is_number(row[column]) for row in self.rows)

    def title_of(self, column: str) -> str:
        """What a terminal shows above a column, with the unit its numbers are shown in."""
        scale = self._scale(column)
        unit = "" if scale is None else scale.step if column in self.changes else scale.unit
        return " ".join(filter(None, [self.titles.get(column, column), unit]))

    def texts(self, column: str) -> list[str]:
        """A column as a terminal shows it."""
        scale = self._scale(column)
        return [self._text(row[column], column, scale) for row in self.rows]

    def _scale(self, column: str) -> Scale | None:
        if column not in self.units:
            return None
        numbers = [row[column] for row in self.rows if _is_number(row[column])]
        return scale_of(self.units[column], numbers)

    def _text(self, value: Any, column: str, scale: Scale | None) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else ""
        if scale is not None and _is_number(value):
            return scale.show_change(value) if column in self.changes else scale.show(value)
        return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown.

    Args:
        sheets: For a terminal.
        flat: One table with all of it, for programs and documents.
        notes: What a reader has to know, one sentence each.
    """

    sheets: Sequence[Sheet]
    flat: Sheet
    notes: Sequence[str] = ()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
