"""What can be done to a model: `python -m compressors list`, and `describe NAME`."""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from core.app import report
from core.listing import listing

if TYPE_CHECKING:
    from compressors.catalogue import Recipe

WIDTH = 100
"""Of prose."""

LAYERS = "op_types, op_names, exclude, config_list: see config/selection/default.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; 0, or 2 for a name that does not exist."""
    options = parser().parse_args(arguments)
    from compressors.catalogue import catalogue
    from core.errors import pick

    try:
        if options.command == "describe":
            text = page(pick("compressor", options.name, catalogue()))
        else:
            show = markdown if options.format == "markdown" else table
            text = show(catalogue().values())
    except LookupError as error:
        report(error)
        return 2
    sys.stdout.write(text)
    return 0


def parser() -> argparse.ArgumentParser:
    """Both commands with their help."""
    top = argparse.ArgumentParser(
        prog="python -m compressors",
        description="Show the recipes. To use one: python evaluate.py compressor=NAME",
        epilog="Exit code 2: a name that does not exist.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="list | describe NAME")
    several = commands.add_parser(
        "list", help="one line a recipe", description="One line for every recipe."
    )
    several.add_argument("--format", choices=("table", "markdown"), default="table")
    one = commands.add_parser(
        "describe", help="all about one recipe", description="What a recipe does, and its keys."
    )
    one.add_argument("name", help="a file of config/compressor, as `list` names it")
    return top


def markdown(recipes: Iterable["Recipe"]) -> str:
    """One table, a family after the other."""
    rows = [
        f"| `{one.name}` | {_family(one)} | {', '.join(one.needs)} | {_escaped(one.meaning)} |"
        for one in recipes
    ]
    head = ["| recipe | family | needs | what it does |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def table(recipes: Iterable["Recipe"]) -> str:
    """A table, a family after the other."""
    sections = (
        (family, [(one.name, ", ".join(one.needs), one.meaning) for one in members])
        for family, members in groupby(recipes, key=_family)
    )
    return listing(("name", "needs", "what it does"), sections, unbroken=("name",))


def page(one: "Recipe") -> str:
    """A recipe as text: what it does, what to expect, its keys, its paper."""
    prose = "\n\n".join(textwrap.fill(part, WIDTH) for part in one.header.split("\n\n"))
    facts = f"family  {_family(one)}\nneeds   {', '.join(one.needs) or 'nothing but the weights'}"
    parts = {
        "keys (compressor.<key>=...)": one.keys,
        "layers": LAYERS if one.selects else "",
        "reference": textwrap.fill(one.reference, WIDTH - 2),
        "run": f"python evaluate.py compressor={one.name}",
    }
    told = [f"{title}\n{textwrap.indent(text, '  ')}" for title, text in parts.items() if text]
    return "\n\n".join([one.name, prose, facts, *told]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _family(one: "Recipe") -> str:
    from compressors.catalogue import FAMILIES

    return FAMILIES[one.family]


if __name__ == "__main__":
    sys.exit(main())
