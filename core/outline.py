"""What a class says of itself, read from its source: to import it would take torch, and seconds."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@cache
def outline(target: str) -> type[Any]:
    """A class with the name, docstring, constants and bases of the one that `target` names.

    Methods, bases from elsewhere, and what is no constant are left out; none of its code runs.

    Args:
        target: `<package>.<module>.<class>` of this repository.

    Raises:
        LookupError: There is no such class.
    """
    module, _, name = target.rpartition(".")
    found = _names(module).get(name)
    if isinstance(found, str):
        return outline(found)
    if found is None:
        raise LookupError(f"there is no class {target!r} in this repository")
    bases = tuple(outline(base) for base in _bases(found, module))
    said = {"__doc__": ast.get_docstring(found, clean=False), "__module__": module}
    return type(name, bases, said | dict(_constants(found)))


@cache
def _names(module: str) -> dict[str, ast.ClassDef | str]:
    """What a module defines, and what it imports of ours: name -> class, or where it is from."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if not path.is_file():
        return {}
    names: dict[str, ast.ClassDef | str] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def _bases(node: ast.ClassDef, module: str) -> Iterator[str]:
    """Targets of the bases that are of this repository."""
    for base in map(ast.unparse, node.bases):
        found = _names(module).get(base)
        target = f"{module}.{base}" if isinstance(found, ast.ClassDef) else found
        if target and _names(target.rpartition(".")[0]):
            yield target


def _constants(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Attributes whose values are written out."""
    for line in node.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            target = line.targets[0] if isinstance(line, ast.Assign) else line.target
            names = target.elts if isinstance(target, ast.Tuple) else None
            with suppress(ValueError):  # computed
                value = _value(line.value)
                pairs = zip(names, value, strict=True) if names else [(target, value)]
                yield from ((ast.unparse(name), one) for name, one in pairs)


def _value(node: ast.expr) -> Any:
    """A constant, or a frozen set of constants."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "frozenset":
        return frozenset(*map(ast.literal_eval, node.args))
    return ast.literal_eval(node)
