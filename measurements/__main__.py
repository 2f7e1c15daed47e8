"""What can be measured: `python -m measurements list`, `python -m measurements describe NAME`."""

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from core.app import report
from core.listing import listing

if TYPE_CHECKING:
    from measurements.catalogue import Described

KINDS = {
    "benefit": "What the model is worth to who uses it",
    "property": "What the model is like in itself",
    "paired": "What changed from the baseline, on the same samples",
}
PLURALS = {"benefit": "Benefits", "property": "Properties", "paired": "Paired"}
COLUMNS = ("name", "unit", "better", "needs", "meaning")

INTRODUCTION = """\
# Measurements

Made by `python -m measurements list --format markdown`. `python -m measurements describe NAME`
tells more of one: its definition, its parameters, its paper and the names of its results. To
measure: `python evaluate.py measurements=[accuracy,nll]`, or a group: `measurement_group=ood`.

*needs* says what a measurement reads: `records` of one pass over the data that all of them share
(with `logits` or `features` where the columns are not enough), the `weights`, some `images` or
`gradients` for which it runs the model itself, or the clock (`timing`).
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; 0, or 2 for a name that does not exist."""
    options = parser().parse_args(arguments)
    try:
        text = list_all(options) if options.command == "list" else describe(options)
    except LookupError as error:
        report(error)
        return 2
    sys.stdout.write(text)
    return 0


def parser() -> argparse.ArgumentParser:
    """Both commands with their help."""
    top = argparse.ArgumentParser(
        prog="python -m measurements",
        description="Show what can be measured. To measure: python evaluate.py --help",
        epilog="Exit code 2: a name that does not exist.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="list | describe NAME")
    several = commands.add_parser(
        "list", help="one line a measurement", description="One line for every measurement."
    )
    several.add_argument("--kind", choices=tuple(KINDS), help="only this kind")
    several.add_argument("--group", metavar="NAME", help="only those of a measurement group")
    several.add_argument("--format", choices=("table", "json", "markdown"), default="table")
    one = commands.add_parser(
        "describe", help="all about one measurement", description="All about one measurement."
    )
    one.add_argument("name", help="an entry of config/measurement_library, as `list` names it")
    one.add_argument(
        "--quick",
        action="store_true",
        help="without the names of its results, for which it measures some embedded digits",
    )
    return top


def list_all(options: argparse.Namespace) -> str:
    """The measurements asked for, in the format asked for."""
    from measurements.catalogue import catalogue, chosen

    rows = [one.summary for one in chosen(catalogue(), kind=options.kind, group=options.group)]
    if options.format == "json":
        return json.dumps(rows, indent=1) + "\n"
    return markdown(rows) if options.format == "markdown" else table(rows)


def describe(options: argparse.Namespace) -> str:
    """All that is known of a measurement."""
    from core.errors import pick
    from measurements.catalogue import catalogue

    one = pick("measurement", options.name, catalogue())
    if options.quick:
        return page(one, None)
    from measurements.rehearsal import outcome

    return page(one, outcome(one.name))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A page: a table for each kind."""
    parts = [INTRODUCTION]
    for kind, members in groupby(rows, key=lambda row: row["kind"]):
        lines = [f"| {' | '.join(line)} |" for line in _lines(members, name="`{}`")]
        head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        parts.append("\n".join([f"## {PLURALS[kind]}\n", f"{KINDS[kind]}.\n", *head, *lines, ""]))
    return "\n".join(parts)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table, a kind after the other."""
    kinds = groupby(rows, key=lambda row: row["kind"])
    sections = ((PLURALS[kind], _lines(members)) for kind, members in kinds)
    return listing(COLUMNS, sections, unbroken=("name", "better"))


def page(one: "Described", results: Mapping[str, float] | str | None) -> str:
    """A description as text; `results` are those of a rehearsal, or why there are none."""
    facts = {
        "kind": one.type.kind,
        "unit": one.type.unit or "none",
        "better": one.type.better or "neither higher nor lower",
        "needs": ", ".join(sorted(one.type.needs)),
        "version": one.type.version,
        "groups": ", ".join(one.groups) or "none",
        "class": f"{one.type.__module__}.{one.type.__qualname__}",
    }
    documents = {
        "parameters": "\n".join(_parameters(one)),
        "results": _results(results),
        "reference": one.documents.get("Reference", ""),
        "run": one.command,
    }
    parts = [one.name, one.documents[""], one.computed and f"Computed: {one.computed}"]
    parts.append("\n".join(f"{name:8} {value}" for name, value in facts.items()))
    parts += [
        f"{title}\n{textwrap.indent(text, '  ')}" for title, text in documents.items() if text
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _parameters(one: "Described") -> list[str]:
    documents = one.parameter_documents
    return [
        f"measurement_library.{one.name}.{name}={json.dumps(value, default=str)}"
        + (f"\n    {documents[name]}" if name in documents else "")
        for name, value in one.parameters.items()
    ]


def _results(results: Mapping[str, float] | str | None) -> str:
    if results is None or isinstance(results, str):
        return f"not on the embedded digits: {results}" if results else ""
    return "\n".join(results)


def _lines(rows: Any, *, name: str = "{}") -> list[list[str]]:
    return [
        [
            name.format(row["name"]),
            row["unit"],
            row["better"],
            ", ".join(row["needs"]),
            row["meaning"],
        ]
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
