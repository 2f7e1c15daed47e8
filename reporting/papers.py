"""Figures for papers: the page's figures again, as files that a document can take in."""

import logging
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.estimate import Estimate
from core.names import slug
from reporting.page.figures import BASELINE, COMPRESSED, NEITHER, WIDE_RANGE
from reporting.page.material import Bins, Corruptions, Material, Reliability, TradeOff, parts_of
from reporting.page.words import cost_title, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.35
"""Width of a text column in inches, that of most two-column styles."""

PAGE = 6.9
"""Width of both columns in inches."""

CURVES_IN_A_ROW = 5

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # letters stay letters: some publishers refuse Type 3 fonts
    "svg.fonttype": "none",
    "svg.hashsalt": "interplay",  # else the names inside an SVG are new each time
    "legend.frameon": False,
}

UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
"""The same numbers give the same file."""


def write_figures(found: Material, folder: Path, formats: Sequence[str] = ("pdf",)) -> list[Path]:
    """Write the trade-offs, reliability diagrams and corruption curves; returns the files.

    Args:
        found: What was read of a store.
        folder: Is made where it is not there.
        formats: Any of `pdf`, `svg` and `png`.

    Raises:
        LookupError: There is no such format, or nothing to draw.
    """
    import matplotlib as mpl

    unknown = [name for name in formats if name not in UNDATED]
    if unknown or not formats:
        raise LookupError(f"figure_formats are some of {', '.join(UNDATED)}, got {list(formats)}")
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells every letter of a PDF
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for name, figure in drawn(found):
            for kind in formats:
                path = folder / f"{name}.{kind}"
                figure.savefig(path, dpi=300, bbox_inches="tight", metadata=UNDATED[kind])
                written.append(path)
    if not written:
        raise LookupError(
            "the store holds nothing to draw: evaluate a compressed model, as in "
            "python evaluate.py compressor=l1_filter compressor.sparsity=0.5 finetune=short"
        )
    return written


def drawn(found: Material) -> Iterator[tuple[str, "Figure"]]:
    """Every figure with the name of its file."""
    for trade in found.trade_offs:
        cost = parts_of(trade.cost).measured
        subset = f"_{trade.limit_samples}" if trade.limit_samples else ""
        yield f"trade_off_{trade.benefit}_{cost}{subset}", trade_off_figure(trade)
    for pair in found.pairs:
        run = slug(pair.run.run_id)
        for bins in pair.reliability:
            yield f"reliability_{bins.datamodule}_{run}", reliability_figure(bins)
        for curves in pair.corruptions:
            yield f"corruption_{curves.datamodule}_{run}", corruption_figure(curves)


def trade_off_figure(found: TradeOff) -> "Figure":
    """A cost against a benefit, with the Pareto front."""
    figure, axes = _figure(COLUMN, 2.4)
    front = found.front
    axes.step(
        [float(point.cost) for point in front],
        [float(point.benefit) for point in front],
        where="post",
        linestyle=":",
        color=NEITHER,
        label="Pareto front",
    )
    for label, color, marker, wanted in (
        ("baseline", BASELINE, "D", True),
        ("compressed", COMPRESSED, "o", False),
    ):
        points = [point for point in found.points if (point.run.baseline is None) == wanted]
        costs = [float(point.cost) for point in points]
        _series(axes, costs, [p.benefit for p in points], label, color, marker, line="none")
    costs = [float(point.cost) for point in found.points]
    if max(costs) > WIDE_RANGE * min(costs):
        axes.set_xscale("log")
    axes.set_xlabel(cost_title(found.cost, found.points[0].cost.unit))
    axes.set_ylabel(title_of(found.benefit))
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1)
    return figure


def reliability_figure(found: Reliability) -> "Figure":
    """Share of right answers over confidence."""
    figure, axes = _figure(COLUMN, COLUMN)
    axes.plot([0, 1], [0, 1], linestyle=":", color=NEITHER, label="perfectly calibrated")
    for label, color, marker, bins in (
        ("baseline", BASELINE, "D", found.baseline),
        ("compressed", COMPRESSED, "o", found.compressed),
    ):
        _series(axes, bins.confidence, _accuracies(bins), label, color, marker)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of right answers")
    axes.set_xlim(-0.03, 1.05)
    axes.set_ylim(-0.03, 1.05)
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1)
    return figure


def corruption_figure(found: Corruptions) -> "Figure":
    """Accuracy over severity, one small figure a corruption."""
    from matplotlib.figure import Figure

    columns = min(CURVES_IN_A_ROW, len(found.curves))
    rows = ceil(len(found.curves) / columns)
    figure = Figure(figsize=(PAGE, 0.4 + 1.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for place, (axes, curve) in enumerate(zip(grid, found.curves, strict=False)):
        severities = list(map(float, curve.severities))
        _series(axes, severities, curve.baseline, "baseline", BASELINE, "D")
        _series(axes, severities, curve.compressed, "compressed", COMPRESSED, "o")
        axes.set_title(curve.corruption.replace("_", " "), fontsize=8)
        axes.set_ylim(0, 1.05)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelbottom=place + columns >= len(found.curves))  # none is below it
    for axes in list(figure.axes)[len(found.curves) :]:
        axes.set_visible(False)
    figure.supxlabel("severity", fontsize=8)
    figure.supylabel("accuracy", fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _series(
    axes: "Axes",
    xs: Sequence[float],
    values: Sequence[Estimate],
    label: str,
    color: str,
    marker: str,
    *,
    line: str = "-",
) -> None:
    """Values with their intervals; a value without one has no bar."""
    ends = [
        [value - (value if value.low is None else value.low) for value in values],
        [(value if value.high is None else value.high) - value for value in values],
    ]
    axes.errorbar(
        xs,
        [float(value) for value in values],
        yerr=ends if values else None,
        label=label,
        color=color,
        marker=marker,
        markersize=3,
        linewidth=1,
        linestyle=line,
        elinewidth=0.6,
        capsize=1.5,
    )


def _accuracies(bins: Bins) -> list[Estimate]:
    return [
        Estimate(value, low=low, high=high)
        for value, low, high in zip(bins.accuracy, bins.low, bins.high, strict=True)
    ]
