"""All runs of a store as one population: each with its numbers, its lineage and its recipe."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from core.estimate import Estimate
from core.names import CLEAN, SPLITS, measured_in
from reporting.compare import Row, compare
from reporting.recipes import parameters, recipe_text, signature
from store.layout import Layout
from store.runs import Run, list_runs


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run among all others.

    Args:
        run: The run.
        lineage: Content address of its baseline; its own where it has none.
        rows: Everything measured of it, by result name.
    """

    run: Run
    lineage: str
    rows: Mapping[str, Row] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.run.run_id

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What its recipe was told, by name."""
        return parameters(self.run.lineage)

    @property
    def recipe(self) -> str:
        """The same as one line of text."""
        return recipe_text(self.run.lineage)

    @cached_property
    def signature(self) -> str:
        """Equal for runs that differ only by seed, or by the checkpoint they started from."""
        return signature(self.run)

    def value(self, name: str) -> Estimate | None:
        """A number of the model itself, or of the pair."""
        row = self.rows.get(name)
        return row.compressed if row and isinstance(row.compressed, Estimate) else None

    def change(self, name: str) -> float | None:
        """The number minus that of the baseline, paired where it was measured so."""
        row = self.rows.get(name)
        return row.change if row else None

    def key(self, name: str) -> str:
        """Digest of the definition a number was measured under; empty where there is none."""
        return self.rows[name].key if self.value(name) is not None else ""

    def change_key(self, name: str) -> str:
        """The same of a change."""
        return self.rows[name].change_key if self.change(name) is not None else ""


def read_members(layout: Layout) -> list[Member]:
    """Every run of a store, each baseline directly before what was made of it.

    Raises:
        LookupError: The store is empty or not there.
    """
    runs = {run.run_id: run for run in list_runs(layout)}
    if not runs:
        raise LookupError(
            f"there are no results in {layout.root}: run python evaluate.py first, or name "
            "another store with results_dir="
        )
    ordered = sorted(
        runs.values(), key=lambda run: (run.baseline or run.run_id, bool(run.baseline))
    )
    return [_member(layout, run, runs) for run in ordered]


def _member(layout: Layout, run: Run, runs: Mapping[str, Run]) -> Member:
    found = compare(layout, run.run_id)
    base = runs.get(run.baseline or "", run)
    return Member(
        run=run,
        lineage=base.fingerprint if run.baseline in runs else run.baseline or run.fingerprint,
        rows={row.name: row for row in (*found.rows, *found.paired)},
    )


def named(members: Iterable[Member], wanted: str) -> list[str]:
    """Result names a short name stands for, such as `accuracy` for `digits_test_accuracy`.

    Args:
        members: Where to look.
        wanted: A whole result name, or one without its dataset and split.
    """
    found = dict.fromkeys(name for member in members for name in member.rows)
    if wanted in found:
        return [wanted]
    return [name for name in found if name.endswith(f"_{wanted}") and _short(name) == wanted]


def usual(keys: Iterable[str]) -> str:
    """The most frequent of the definitions, the first of equally frequent ones.

    Numbers of other definitions, such as other attack parameters, are not compared with its own.

    Example:
        >>> usual(["", "old", "new", "new", ""])
        'new'
    """
    counts = Counter(key for key in keys if key)
    return max(counts, key=counts.__getitem__, default="")


def unlike_note(name: str, count: int) -> str:
    """What is said about numbers of another definition than the usual one."""
    return (
        f"{name}: {count} runs are left out, measured under another definition, on other data or "
        "on another machine than most"
    )


def view_of(row: Row) -> str:
    """How the data of a row was looked at."""
    return row.values[-1].view if row.values else CLEAN


def source_of(row: Row) -> tuple[str, str, str]:
    """Datamodule, measured name and view of a row."""
    view = view_of(row)
    return (*measured_in(row.name, view), view)


def _short(name: str) -> str:
    return measured_in(name)[1] if any(f"_{split}_" in name for split in SPLITS) else name
