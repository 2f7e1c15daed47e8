"""What was found out about a model before its compression: tables for a terminal, and files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import write_atomically
from reporting.analysis_figures import write_pictures
from reporting.screen import show_sheets
from reporting.sheets import Sheet


def analysis_text(
    kind: str, model: str, found: Mapping[str, Any], notes: Sequence[str], *, color: bool = False
) -> str:
    """A table of an analysis.

    Args:
        kind: sensitivity, dependency or cost.
        model: Its name.
        found: What was found, JSON.
        notes: Told below.
        color: Write colours.
    """
    sheets = {"sensitivity": _sensitivity, "dependency": _dependency, "cost": _cost}
    return show_sheets([sheets[kind](model, found)], notes, color=color)


def write_analysis(kind: str, found: Mapping[str, Any], csv: str, folder: Path) -> list[Path]:
    """Write `<kind>.csv`, `.json`, `.png` and `.pdf` into a folder; returns the files."""
    table, numbers = folder / f"{kind}.csv", folder / f"{kind}.json"
    write_atomically(table, csv)
    write_atomically(numbers, json.dumps(found, indent=1) + "\n")
    return [table, numbers, *write_pictures(kind, found, folder)]


def _sensitivity(model: str, found: Mapping[str, Any]) -> Sheet:
    strengths = [f"{sparsity:g}" for sparsity in found["sparsities"]]
    rows = []
    for layer, scores in found["scores"].items():
        percent = [None if score is None else 100 * score for score in scores]
        cells = [*percent, *[None] * (len(strengths) - len(scores))]
        partners = ", ".join(found["tied"][layer][1:])
        named = dict(zip(strengths, cells, strict=True))
        rows.append({"layer": layer, **named, "pruned with it": partners})
    return Sheet(
        columns=["layer", *strengths, "pruned with it"],
        rows=rows,
        title=f"{model}: score in % with this share of one layer gone",
    )


def _dependency(model: str, found: Mapping[str, Any]) -> Sheet:
    rows = [
        {
            "set": number,
            "layers": ", ".join(one["layers"]),
            "filters": "/".join(map(str, dict.fromkeys(one["filters"].values()))),
            "beside": _beside(one),
        }
        for number, one in enumerate(found["sets"], start=1)
    ]
    columns = ["set", "filters", "layers", "beside"]
    title = f"{model}: layers of one set lose the same filters"
    return Sheet(columns=columns, rows=rows, title=title, titles={"beside": ""})


def _beside(one: Mapping[str, Any]) -> str:
    groups = [f"equally many in {count} groups of {name}" for name, count in one["groups"].items()]
    return "; ".join(filter(None, [one["fixed"], *groups]))


def _cost(model: str, found: Mapping[str, Any]) -> Sheet:
    total = {"name": "all", "macs": found["macs"], "params": found["params"]}
    rows = [
        {
            "layer": layer["name"] or "(the model)",
            "type": layer.get("type", ""),
            "weight": _shape(layer.get("weight_shape", ())),
            "input": _shape(layer.get("input_size", ())),
            "output": _shape(layer.get("output_size", ())),
            "MACs": layer["macs"],
            "of all": layer["macs"] / max(1, found["macs"]),
            "parameters": layer["params"],
            "of  all": layer["params"] / max(1, found["params"]),
        }
        for layer in [*found["layers"], total]
    ]
    units = {"MACs": "parameters", "parameters": "parameters"}
    units |= {"of all": "fraction", "of  all": "fraction"}
    return Sheet(columns=list(rows[0]), rows=rows, title=f"{model}: one sample", units=units)


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
