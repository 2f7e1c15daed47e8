"""Figures of the page: pure functions, what was read -> a plotly figure.

Text and grid are coloured by the page's style sheet, light or dark; what is drawn has colours
that can be told from either ground.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any

from core.estimate import Estimate
from reporting.page.material import Bins, Change, Changes, Corruptions, Reliability, TradeOff
from reporting.page.words import cost_title, title_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

NameOf = Callable[[int], str]

BASELINE, COMPRESSED = "#3b82f6", "#d9730d"
BETTER, WORSE, NEITHER = "#2a9d5c", "#d1495b", "#808690"

COLUMNS = 3
"""Curves side by side."""

WIDE_RANGE = 20
"""From this ratio of the largest to the smallest cost on, its axis is logarithmic."""

MOST_PARTS = 40
"""Bars of a figure; of more classes those are drawn that changed most."""


def trade_off_figure(found: TradeOff) -> "go.Figure":
    """What each model is worth against what it costs, and the front of those worth having."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(height=380))
    front = found.front
    figure.add_scatter(
        x=[float(point.cost) for point in front],
        y=[float(point.benefit) for point in front],
        mode="lines",
        name="Pareto front",
        line={"color": NEITHER, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )
    for title, color, symbol, wanted in (
        ("baseline", BASELINE, "diamond", True),
        ("compressed", COMPRESSED, "circle", False),
    ):
        points = [point for point in found.points if (point.run.baseline is None) == wanted]
        figure.add_scatter(
            x=[float(point.cost) for point in points],
            y=[float(point.benefit) for point in points],
            error_y=_errors([point.benefit for point in points]),
            text=[escape(point.run.run_id) for point in points],
            hovertemplate="%{text}<br>%{x}, %{y}<extra></extra>",
            mode="markers",
            name=title,
            marker={"color": color, "symbol": symbol, "size": 10},
        )
    costs = [float(point.cost) for point in found.points]
    logarithmic = max(costs) > WIDE_RANGE * min(costs)
    figure.update_xaxes(
        title_text=escape(cost_title(found.cost, found.points[0].cost.unit)),
        type="log" if logarithmic else "linear",
    )
    unit = found.points[0].benefit.unit
    figure.update_yaxes(title_text=escape(title_of(found.benefit)), tickformat=_ticks(unit))
    return figure


def reliability_figure(found: Reliability) -> "go.Figure":
    """Share of right answers over confidence, with the diagonal of a calibrated model."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(height=380))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfectly calibrated",
        line={"color": NEITHER, "dash": "dot"},
        hoverinfo="skip",
    )
    for title, color, symbol, bins in (
        ("baseline", BASELINE, "diamond", found.baseline),
        ("compressed", COMPRESSED, "circle", found.compressed),
    ):
        figure.add_scatter(
            x=bins.confidence,
            y=bins.accuracy,
            error_y=_bin_errors(bins),
            text=[f"{count:,} images" for count in bins.counts],
            hovertemplate="said %{x:.1%}, right %{y:.1%}<br>%{text}<extra></extra>",
            mode="lines+markers",
            name=title,
            line={"color": color, "width": 1},
            marker={"color": color, "symbol": symbol, "size": _sizes(bins.counts)},
        )
    figure.update_xaxes(title_text="confidence", tickformat=".0%", range=[-0.03, 1.05])
    figure.update_yaxes(title_text="share of right answers", tickformat=".0%", range=[-0.03, 1.05])
    return figure


def corruption_figure(found: Corruptions) -> "go.Figure":
    """Accuracy over severity, a small figure for each corruption, all on one scale."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = ceil(len(found.curves) / COLUMNS)
    grid = make_subplots(
        rows=rows,
        cols=COLUMNS,
        shared_yaxes=True,
        subplot_titles=[escape(curve.corruption.replace("_", " ")) for curve in found.curves],
        vertical_spacing=0.32 / rows,
        horizontal_spacing=0.04,
    ).to_plotly_json()["layout"]
    for name, axis in grid.items():
        if name.startswith("xaxis"):
            axis.update(dtick=1, zeroline=False)
        elif name.startswith("yaxis"):
            axis.update(tickformat=".0%", range=[0, 1.05])
    for title in grid["annotations"]:
        title.update(font={"size": 12})
    layout = {**_layout(height=110 + 170 * rows, top=70), **grid}
    return go.Figure(data=list(_curves(found)), layout=layout)


def _curves(found: Corruptions) -> Iterator[dict[str, Any]]:
    """Traces of the small figures; the first two tell the legend for all."""
    for place, curve in enumerate(found.curves):
        axis = "" if place == 0 else str(place + 1)
        for title, color, symbol, values in (
            ("baseline", BASELINE, "diamond", curve.baseline),
            ("compressed", COMPRESSED, "circle", curve.compressed),
        ):
            yield {
                "type": "scatter",
                "x": curve.severities,
                "y": [float(value) for value in values],
                "error_y": _errors(values),
                "hovertemplate": "severity %{x}: %{y:.2%}<extra></extra>",
                "mode": "lines+markers",
                "name": title,
                "legendgroup": title,
                "showlegend": place == 0,
                "line": {"color": color, "width": 1.5},
                "marker": {"color": color, "symbol": symbol, "size": 6},
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
            }


def changes_figure(found: Changes, name_of: NameOf) -> "go.Figure":
    """Change of accuracy of every class or group as a bar with its interval."""
    import plotly.graph_objects as go

    shown = most_changed(found.rows)
    values = [_difference(change) for change in shown]
    figure = go.Figure(layout=_layout(height=80 + 24 * len(shown), legend=False, top=10))
    figure.add_bar(
        x=[float(value) for value in values],
        y=[escape(part_name(found, change, name_of)) for change in shown],
        orientation="h",
        error_x=_errors(values),
        marker_color=[
            {"better": BETTER, "worse": WORSE}.get(change.row.verdict, NEITHER) for change in shown
        ],
        customdata=[
            [value.n, change.row.verdict] for value, change in zip(values, shown, strict=True)
        ],
        hovertemplate="%{y}: %{x:+.2%}<br>%{customdata[0]} images, %{customdata[1]}<extra></extra>",
    )
    figure.update_xaxes(title_text="change of accuracy, compressed minus baseline")
    figure.update_xaxes(tickformat="+.0%")
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    return figure


def most_changed(rows: Sequence[Change]) -> list[Change]:
    """Those that fit into a figure, in their own order: all, or those with the largest change."""
    by_change = sorted(rows, key=lambda change: -abs(_difference(change)))
    kept = {change.part for change in by_change[:MOST_PARTS]}
    return [change for change in rows if change.part in kept]


def part_name(found: Changes, change: Change, name_of: NameOf) -> str:
    """What a class or group is called."""
    return change.part.replace("_", " ") if found.column else name_of(int(change.part))


def matrix_figure(
    properties: Sequence[str], benefits: Sequence[str], values: Sequence[Sequence[float | None]]
) -> "go.Figure":
    """Correlation of every property with every benefit, a field each.

    Args:
        properties: Names of the rows.
        benefits: Names of the columns.
        values: One row a property, in [-1, 1]; None where there is none.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(height=160 + 28 * len(properties), legend=False, top=120))
    figure.add_heatmap(
        x=[escape(name) for name in benefits],
        y=[escape(name) for name in properties],
        z=[list(row) for row in values],
        zmin=-1,
        zmax=1,
        colorscale=[
            [0, _faded(COMPRESSED)],
            [0.5, "rgba(128,134,144,0.08)"],
            [1, _faded(BASELINE)],
        ],
        text=[["" if value is None else f"{value:+.2f}" for value in row] for row in values],
        texttemplate="%{text}",
        hovertemplate="%{y} against %{x}: %{z:+.3f}<extra></extra>",
        hoverongaps=False,
        xgap=2,
        ygap=2,
        colorbar={"title": {"text": "Spearman"}, "thickness": 12},
    )
    figure.update_xaxes(side="top", tickangle=-35, type="category", dtick=1)
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    return figure


def _layout(*, height: int, legend: bool = True, top: int = 50) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "template": None,
        "height": height,
        "autosize": True,
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "margin": {"l": 10, "r": 10, "t": top, "b": 10},
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1, "yanchor": "top", "yref": "container"},
        "hoverlabel": {"bgcolor": "#23272e", "bordercolor": "#23272e", "font": {"color": "#fff"}},
        "xaxis": {"automargin": True},
        "yaxis": {"automargin": True},
    }


def _faded(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.75)"


def _ticks(unit: str) -> str:
    return ".1%" if unit == "fraction" else ""


def _errors(values: Sequence[Estimate]) -> dict[str, Any]:
    """Ends of the intervals as distances from the values, as plotly wants them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [float(v.high - v) if v.high is not None else 0.0 for v in values],
        "arrayminus": [float(v - v.low) if v.low is not None else 0.0 for v in values],
        "thickness": 1,
        "width": 3,
    }


def _bin_errors(bins: Bins) -> dict[str, Any]:
    values = [
        Estimate(value, low=low, high=high)
        for value, low, high in zip(bins.accuracy, bins.low, bins.high, strict=True)
    ]
    return {**_errors(values), "thickness": 0.7, "width": 0}


def _sizes(counts: Sequence[int]) -> list[float]:
    """Diameters of markers, so that their areas tell the bins' shares."""
    largest = max(counts, default=1)
    return [4 + 12 * (count / largest) ** 0.5 for count in counts]


def _difference(change: Change) -> Estimate:
    assert change.row.difference is not None, "only measured changes are collected"
    return change.row.difference
