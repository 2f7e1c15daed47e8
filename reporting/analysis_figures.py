"""Pictures of an analysis: a heat map, a matrix of ties, bars of cost."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reporting.page.figures import BASELINE, COMPRESSED, NEITHER
from reporting.papers import PAGE, STYLE, UNDATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf")

ROW = 0.19
"""Height of one layer in inches."""

MOST_BARS = 60
"""Layers of a picture of costs; of more, the costliest are drawn and the others summed up."""

LEAST_SHARE = 0.005
"""Of both costs: a layer below it is among the others."""

STOPPED = "#e4e5e8"
"""Of cells that were not scored any more."""

DARK = 0.55
"""Below this height on the colour map, a number in a cell is white."""


def write_pictures(kind: str, found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the picture of an analysis in every format; returns the files.

    Args:
        kind: sensitivity, dependency or cost.
        found: What was found, JSON.
        folder: Is made where it is not there.
    """
    import matplotlib as mpl

    drawings: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
        "sensitivity": sensitivity_figure,
        "dependency": dependency_figure,
        "cost": cost_figure,
    }
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every letter of a PDF
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{kind}.{name}" for name in FORMATS]
    with mpl.rc_context(STYLE):
        figure = drawings[kind](found)
        for path in paths:
            metadata = UNDATED[path.suffix[1:]]
            figure.savefig(path, dpi=200, bbox_inches="tight", metadata=metadata)
    return paths


def sensitivity_figure(found: Mapping[str, Any]) -> "Figure":
    """Score over layers and sparsities; empty after an early stop, hatched where not measured."""
    import numpy as np
    from matplotlib.patches import Rectangle

    layers, strengths = list(found["scores"]), found["sparsities"]
    cells = np.full((len(layers), len(strengths)), np.nan)
    for row, scores in enumerate(found["scores"].values()):
        cells[row, : len(scores)] = [np.nan if score is None else score for score in scores]
    figure, axes = _figure(len(layers), width=min(PAGE, 2.2 + 0.45 * len(strengths)))
    low, high = np.nanmin(cells), max(np.nanmax(cells), found["baseline"])
    image = axes.imshow(cells, aspect="auto", cmap="viridis", vmin=low, vmax=max(high, low + 1e-9))
    for (row, column), score in np.ndenumerate(cells):
        if not np.isnan(score):
            height = (score - low) / max(high - low, 1e-9)
            color = "white" if height < DARK else "black"
            text = f"{100 * score:.0f}" if abs(score) <= 1 else f"{score:.3g}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=6)
        elif column < len(found["scores"][layers[row]]):
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=NEITHER, linewidth=0)
            )
    axes.set_xticks(range(len(strengths)), [f"{sparsity:g}" for sparsity in strengths])
    axes.set_xlabel(
        "share of the layer's filters that is gone; grey: stopped before; hatched: not measured"
    )
    axes.set_facecolor(STOPPED)
    _name_rows(axes, layers)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.axhline(found["baseline"], color=COMPRESSED, linewidth=2)
    bar.set_label(f"score; orange: unpruned, {found['baseline']:.4f}")
    bar.outline.set_visible(False)
    return figure


def dependency_figure(found: Mapping[str, Any]) -> "Figure":
    """Layers and their filters down, sets across: a line joins what loses the same filters."""
    sets = found["sets"]
    layers = [layer for one in sets for layer in one["layers"]]
    order = {layer: row for row, layer in enumerate(layers)}
    figure, axes = _figure(len(layers), width=min(PAGE, 2.4 + 0.16 * len(sets)))
    for column, one in enumerate(sets):
        rows = [order[layer] for layer in one["layers"]]
        color = COMPRESSED if one["fixed"] else BASELINE if len(rows) > 1 else NEITHER
        axes.plot([column] * len(rows), rows, color=color, marker="o", markersize=4, linewidth=1.5)
    columns = range(0, len(sets), 1 + len(sets) // 20)
    axes.set_xticks(columns, [str(column + 1) for column in columns])
    axes.set_xlim(-0.6, len(sets) - 0.4)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.set_xlabel("dependency set; orange: nothing can go")
    _name_rows(axes, [f"{layer}  {_filters(sets, layer)}" for layer in layers])
    axes.grid(axis="y", color=NEITHER, alpha=0.2, linewidth=0.5)
    axes.tick_params(length=0)
    return figure


def cost_figure(found: Mapping[str, Any]) -> "Figure":
    """Multiply-accumulates and parameters of each layer, as shares of the whole."""
    from matplotlib.figure import Figure

    rows = costliest(found["layers"])
    figure = Figure(figsize=(PAGE, _height(len(rows))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, title, color in (
        (left, "macs", "multiply-accumulates", BASELINE),
        (right, "params", "parameters", COMPRESSED),
    ):
        total = max(1, found[key])
        axes.barh(range(len(rows)), [100 * row[key] / total for row in rows], color=color)
        axes.set_xlabel(f"% of {_short(found[key])} {title}")
        axes.tick_params(axis="y", length=0)
    left.set_ylim(len(rows) - 0.4, -0.6)
    _name_rows(left, [row["name"] or "(the model)" for row in rows])
    return figure


def costliest(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Layers that cost something, in the model's order; the others as one row at the end."""
    macs, params = (max(1, sum(layer[key] for layer in layers)) for key in ("macs", "params"))
    shares = [(layer["macs"] / macs, layer["params"] / params) for layer in layers]
    ranked = sorted(range(len(layers)), key=lambda index: -sum(shares[index]))[:MOST_BARS]
    drawn = {index for index in ranked if max(shares[index]) >= LEAST_SHARE}
    rest = [layer for index, layer in enumerate(layers) if index not in drawn]
    summed = {key: sum(layer[key] for layer in rest) for key in ("macs", "params")}
    others = [{"name": f"{len(rest)} others", **summed}] if rest else []
    return [*(layers[index] for index in sorted(drawn)), *others]


def _figure(rows: int, *, width: float) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, _height(rows)), layout="constrained")
    return figure, figure.subplots()


def _height(rows: int) -> float:
    return 0.8 + ROW * max(rows, 4)


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=7)


def _filters(sets: Sequence[Mapping[str, Any]], layer: str) -> int:
    return next(one["filters"][layer] for one in sets if layer in one["filters"])


def _short(count: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
