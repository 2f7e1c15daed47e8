"""What `report.py show=...` can show, in every format."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

from core.errors import ConfigError, pick
from reporting.pivot import runs_view
from reporting.population import Member, read_members
from reporting.render import Format, render
from reporting.screen import show_sheets
from reporting.sheets import Sheet, View
from reporting.tables import comparison, results_table
from reporting.tradeoff import COST, Tradeoff, tradeoffs
from store.layout import Layout

if TYPE_CHECKING:
    from reporting.association import Associations
    from reporting.exemplars import Populations

log = logging.getLogger(__name__)

Show = Literal["results", "runs", "tradeoff", "association", "exemplars", "significance"]

OF_ONE_RUN = ("results", "significance")
"""What can be shown of one run; the others say something over several."""

CORRELATED = (
    "spearman, pearson: one point a lineage, the mean of the models made from one baseline; "
    "[low, high]: 95 % bootstrap interval of spearman over lineages; p: two-sided permutation test "
    "of spearman; holm: adjusted for all pairs of the table. A correlation is no cause."
)

TRADED = (
    "front: no other model of the same baseline is at least as accurate and cheap, and better in "
    "one; front of all: no other model in the store. drop per halving: accuracy lost for each "
    "halving of the cost. best within: shares of the baseline's cost within which this model has "
    "the least error. Differences within the intervals of the errors are not resolved."
)

JUDGED = (
    "p: of a test where one was measured, else from the 95 % interval of the paired difference, "
    "taken as normal. holm bounds the chance of any false answer among those of the run, "
    "benjamini_hochberg the expected share of false ones."
)

GIVEN_UP = (
    "exemplars: samples to which most compressed models give another label than most baselines "
    "(ties: the lowest class). shift: recall of a class minus accuracy, against the baselines; "
    "p: Welch's t over models; holm: adjusted for all classes."
)


def require_show(name: str) -> Show:
    """What is shown under that name.

    Raises:
        LookupError: There is none; the text names those there are.
    """
    return pick("show", name, {option: option for option in get_args(Show)})


def show(
    layout: Layout,
    what: Show,
    kind: Format = "table",
    *,
    run: str | None = None,
    columns: Sequence[str] | None = None,
    cost: str = COST,
    color: bool = False,
) -> str:
    """The text of a view.

    Args:
        layout: The store.
        what: `results`: every value, or one run beside its baseline; `runs`: one row a run;
            `tradeoff`: error against cost; `association`: property against benefit; `exemplars`:
            samples given up; `significance`: paired p-values, adjusted for their number.
        kind: How it is written.
        run: Id of a run; None for all.
        columns: Of `runs`: result names, or names without dataset and split.
        cost: Of `tradeoff`: result name of what is paid.
        color: Write colours, in a `table`.

    Raises:
        ConfigError: An option that does not go with the view.
        LookupError: The store is empty, or has no such run or name.
    """
    _require_fitting(what, run, columns)
    if what == "results" and run is not None:
        return comparison(layout, run, kind, color=color)
    if what == "results":
        return results_table(layout, kind, color=color)
    members = read_members(layout)
    if run is not None:
        members = [pick("run", run, {member.run_id: member for member in members})]
    return written(_view(layout, members, what, columns, cost), kind, color=color)


def written(view: View, kind: Format, *, color: bool = False) -> str:
    """A view as text; what a program's format has no place for is told in the log."""
    if kind == "table":
        return show_sheets(view.sheets, view.notes, color=color)
    if not view.flat.rows:
        log.warning("%s", "; ".join(view.notes) or "there is nothing to show")
    return render(view.flat.rows, view.flat.columns, kind)


def association_view(found: "Iterable[Associations]") -> View:
    """Pairs by p-value; where there are too few lineages, what is missing."""
    rows, notes = [], []
    for one in found:
        notes += [f"{one.what}: {text}" for text in (one.missing, *one.notes) if text]
        rows += [
            {
                "of": one.what,
                "property": pair.prop,
                "benefit": pair.benefit,
                "spearman": pair.found.spearman,
                "low": pair.found.spearman_interval.low,
                "high": pair.found.spearman_interval.high,
                "pearson": pair.found.pearson,
                "p": pair.found.p_value,
                "holm": pair.found.adjusted,
                "lineages": pair.found.lineages,
                "models": pair.found.models,
            }
            for pair in one.pairs
        ]
    columns = ("of", "property", "benefit", "spearman", "low", "high", "pearson", "p", "holm")
    sheet = Sheet(columns=(*columns, "lineages", "models"), rows=rows)
    return _single(sheet, [*notes, CORRELATED] if rows else notes)


def tradeoff_view(found: Iterable[Tradeoff]) -> View:
    """One table for each dataset and baseline; together, in one table, for programs."""
    sheets = [_tradeoff_sheet(one) for one in found]
    rows = [row for sheet in sheets for row in sheet.rows]
    notes = [TRADED] if rows else ["nothing was made of any baseline, so there is no trade-off"]
    return View(sheets=sheets, flat=Sheet(columns=TRADEOFF_COLUMNS, rows=rows), notes=notes)


TRADEOFF_COLUMNS = (
    "accuracy_name",
    "cost_name",
    "baseline",
    "hypervolume",
    "run_id",
    "recipe",
    "error",
    "low",
    "high",
    "cost",
    "drop_per_halving",
    "on_front",
    "on_front_of_all",
    "best_within",
)


def _tradeoff_sheet(found: Tradeoff) -> Sheet:
    rows = []
    for point in found.points:
        shares = [f"{one.share:g}" for one in found.within if one.run_id == point.run_id]
        rows.append(
            {
                **asdict(point),
                "accuracy_name": found.accuracy,
                "cost_name": found.cost,
                "baseline": found.baseline,
                "hypervolume": found.hypervolume,
                "best_within": " ".join(shares),
            }
        )
    volume = "" if found.hypervolume is None else f", hypervolume {found.hypervolume:.4g}"
    fractions = ("error", "low", "high", "drop_per_halving")
    return Sheet(
        columns=TRADEOFF_COLUMNS,
        rows=rows,
        title=f"1 - {found.accuracy} against {found.cost}{volume}",
        titles={
            "drop_per_halving": "drop per halving",
            "on_front": "front",
            "on_front_of_all": "front of all",
            "best_within": "best within",
        },
        units={**dict.fromkeys(fractions, "fraction"), "cost": found.unit},
        changes=frozenset({"drop_per_halving"}),
        for_files=frozenset({"accuracy_name", "cost_name", "baseline", "hypervolume", "recipe"}),
    )


def exemplars_view(found: "Iterable[Populations]") -> View:
    """Samples, then classes, of every recipe and dataset."""
    populations = list(found)
    sheets = [sheet for one in populations for sheet in _exemplar_sheets(one)]
    rows = [row for one in populations for row in _exemplar_rows(one)]
    notes = [text for one in populations for text in one.notes]
    if not populations:
        notes = ["no compressed model has records beside those of its baseline"]
    return View(
        sheets=sheets,
        flat=Sheet(columns=EXEMPLAR_COLUMNS, rows=rows),
        notes=[*dict.fromkeys(notes), GIVEN_UP] if populations else notes,
    )


EXEMPLAR_COLUMNS = (
    "model",
    "recipe",
    "dataset",
    "compressed_models",
    "baselines",
    "what",
    "sample_id",
    "label",
    "modal_baseline",
    "modal_compressed",
    "shift",
    "p",
    "holm",
)


def _exemplar_rows(found: "Populations") -> list[dict[str, Any]]:
    """A row a sample and a row a class, told apart by `what`."""
    shared: dict[str, Any] = {
        **dict.fromkeys(EXEMPLAR_COLUMNS),
        "model": found.model,
        "recipe": found.recipe,
        "dataset": found.dataset,
        "compressed_models": len(found.compressed),
        "baselines": len(found.baselines),
    }
    samples = [
        {
            **shared,
            "what": found.what,
            "sample_id": row.sample_id,
            "label": row.label,
            "modal_baseline": row.baseline,
            "modal_compressed": row.compressed,
        }
        for row in found.rows
    ]
    classes = [
        {
            **shared,
            "what": "class",
            "label": test.label,
            "shift": test.shift,
            "p": test.p_value,
            "holm": test.adjusted,
        }
        for test in found.classes
    ]
    return samples + classes


def _exemplar_sheets(found: "Populations") -> list[Sheet]:
    rows = _exemplar_rows(found)
    count = len(found.rows)
    title = (
        f"{found.dataset}: {found.model} {found.recipe}: {count} of {found.samples} samples are "
        f"{found.what} ({len(found.compressed)} compressed models, {len(found.baselines)} "
        f"baselines, {found.ties} ties)"
    )
    columns = ("sample_id", "label", "modal_baseline", "modal_compressed")
    sheets = [Sheet(title=title, columns=columns, rows=rows[:count])]
    if found.classes:
        tested = Sheet(
            title="classes",
            columns=("label", "shift", "p", "holm"),
            rows=rows[count:],
            units={"shift": "fraction"},
            changes=frozenset({"shift"}),
        )
        sheets.append(tested)
    return sheets


def significance_view(members: Sequence[Member]) -> View:
    """Every paired question of every run, with what is left after counting them."""
    from reporting.significance import significance  # torch: seconds, which a table does without

    columns = ("run_id", "name", "source", "difference", "p", "holm", "benjamini_hochberg")
    rows = [{**asdict(one), "p": one.p_value} for one in significance(members)]
    sheet = Sheet(columns=(*columns, "verdict", "verdict_holm"), rows=rows)
    return _single(sheet, [JUDGED] if rows else ["nothing paired was measured"])


def _view(
    layout: Layout,
    members: Sequence[Member],
    what: Show,
    columns: Sequence[str] | None,
    cost: str,
) -> View:
    if what == "runs":
        return runs_view(members, columns)
    if what == "tradeoff":
        return tradeoff_view(tradeoffs(layout, members, cost=cost))
    if what == "association":
        from reporting.association import associations  # imports torch, as the next one does

        return association_view(associations(members, kind) for kind in ("values", "changes"))
    if what == "exemplars":
        from reporting.exemplars import exemplar_populations

        return exemplars_view(exemplar_populations(layout, members))
    return significance_view(members)


def _single(sheet: Sheet, notes: Sequence[str]) -> View:
    return View(sheets=[sheet] if sheet.rows else [], flat=sheet, notes=notes)


def _require_fitting(what: Show, run: str | None, columns: Sequence[str] | None) -> None:
    faults = []
    if run is not None and what not in OF_ONE_RUN:
        faults.append(f"show={what} is about all runs: leave out run={run}")
    if columns is not None and what != "runs":
        faults.append(f"columns goes with show=runs, not with show={what}")
    if isinstance(columns, str):
        faults.append(f"columns is a list such as [accuracy], got {columns!r}")
    if faults:
        raise ConfigError(faults)
