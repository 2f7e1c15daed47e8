"""What a recipe made of a model, as text for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting.recipes import recipe_text
from reporting.screen import show_sheets
from reporting.sheets import Sheet

COUNTED = {
    "params": "parameters",
    "nonzero_params": "parameters that are not zero",
    "macs": "multiply-accumulates",
    "weight_bytes": "bytes of weights",
}
"""Quantities with a number before and after, and what they are called."""

SPARSITY = "share of the parameters gone or zero"
"""Of those before the first step."""

LATENCY = "latency_ratio"

FIRST_IMPRESSION = (
    "latency: processor time over that of the step before, whichever runtime ran that: a first "
    "impression; python evaluate.py with this recipe and measurements=[latency] measures it"
)


def compressed_text(
    *,
    model: str,
    label: str,
    recipe: Mapping[str, Any],
    folder: Path | None,
    achieved: Mapping[str, Any],
    found: bool,
    seconds: float,
    exports: Sequence[Path],
    dry: bool = False,
    color: bool = False,
) -> str:
    """A table of what was achieved, the notes of every step, and where things lie.

    Args:
        model: Name of what was compressed.
        label: Short text of the recipe.
        recipe: Slot -> step.
        folder: Of the artifact; None where it is not made.
        achieved: Slot -> numbers and `notes` of the step.
        found: Whether the artifact lay there already.
        seconds: What that took.
        exports: Files written beside it.
        dry: Whether they only would be.
        color: Write colours.
    """
    asked = f"asked for: {recipe_text({'operation': {'parameters': recipe}})}"
    written = "".join(f"{'would export' if dry else 'exported'}: {path}\n" for path in exports)
    if folder is None:
        return f"{model}, {label}\n{asked}\nnot made yet\n{written}"
    steps = {slot: values for slot, values in achieved.items() if slot in recipe}
    names = {slot: recipe[slot]["name"] for slot in steps}
    columns = ["", "before", *(f"after {name}" for name in names.values()), "change"]
    rows = _aligned(list(_rows(steps, columns)), columns[1:])
    sheet = Sheet(columns=columns, rows=rows, title=f"{model}, {label}")
    notes = [f"{names[slot]}: {note}" for slot in steps for note in steps[slot].get("notes", ())]
    table = show_sheets([sheet], [asked, *notes, FIRST_IMPRESSION], color=color)
    how = "found" if found else "made"
    return f"{table}\n{how} in {seconds:.1f} s: {folder}\n{written}"


def _rows(steps: Mapping[str, Any], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row a quantity: before, after each step, and the change over all steps."""
    numbers = list(steps.values())
    for key, title in COUNTED.items():
        before = numbers[0][f"{key}_before"]
        after = [step[f"{key}_after"] for step in numbers]
        change = f"{after[-1] / before - 1:+.1%}" if before else None
        yield _row(columns, title, f"{before:,}", *(f"{n:,}" for n in after), change)
    whole = numbers[0]["params_before"]
    shares = (f"{1 - step['nonzero_params_after'] / whole:.1%}" for step in numbers)
    yield _row(columns, SPARSITY, None, *shares, None)
    yield _row(columns, "latency", None, *(f"{step[LATENCY]:.2f}x" for step in numbers), None)
    told = {"removed", "sparsity", LATENCY, "notes"}
    told |= {f"{key}_{when}" for key in COUNTED for when in ("before", "after")}
    for key in dict.fromkeys(key for step in numbers for key in step if key not in told):
        texts = [_text(step.get(key)) for step in numbers]
        yield _row(columns, key.replace("_", " "), None, *texts, None)


def _aligned(rows: list[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Numbers, each with its own unit, to the right."""
    for column in columns:
        width = max(len(column), *(len(row[column] or "") for row in rows))
        for row in rows:
            row[column] = (row[column] or "").rjust(width)
    return rows


def _row(columns: Sequence[str], *cells: str | None) -> dict[str, Any]:
    return dict(zip(columns, cells, strict=True))


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)
