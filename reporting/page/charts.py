"""Figures inside the page: drawn by the script, told in words, and repeated as a table."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from core.estimate import Estimate
from reporting.numbers import scale_of
from reporting.page.figures import (
    NameOf,
    changes_figure,
    corruption_figure,
    matrix_figure,
    most_changed,
    part_name,
    reliability_figure,
    trade_off_figure,
)
from reporting.page.html import Html, details, script_json, table, tag
from reporting.page.material import Bins, Changes, Corruptions, Reliability, TradeOff
from reporting.page.words import cost_title, title_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reporting.association import Pair


class Charts:
    """Writes figures; each has a number of its own on the page."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def trade_off(self, found: TradeOff) -> Html:
        """A cost against a benefit."""
        cost, benefit = cost_title(found.cost, ""), title_of(found.benefit)
        best = ", ".join(point.run.run_id for point in found.front)
        subset = f", {found.limit_samples} samples" if found.limit_samples else ""
        costs = scale_of(found.points[0].cost.unit, [point.cost for point in found.points])
        worth = scale_of(found.points[0].benefit.unit, [point.benefit for point in found.points])
        machines = {str(point.run.provenance.get("cpu")) for point in found.points}
        warning = ""
        if "latency" in found.cost and len(machines) > 1:
            warning = " These times come from different machines: compare them with care."
        return self._chart(
            trade_off_figure(found),
            caption=f"{benefit} against {cost}{subset}. On the dotted line, the Pareto front, are "
            f"the models that no other beats in both.{warning}",
            told=f"Scatter plot of {len(found.points)} models: {benefit} against {cost}. On the "
            f"Pareto front: {best}.",
            numbers=table(
                ["run", _unit(cost, costs.unit), _unit(benefit, worth.unit), "interval", "front"],
                [
                    [
                        point.run.run_id,
                        costs.show(point.cost),
                        worth.show(point.benefit),
                        _interval(point.benefit),
                        "yes" if point.on_front else "no",
                    ]
                    for point in found.points
                ],
                caption="The models of this figure",
                numeric=("interval", _unit(cost, costs.unit), _unit(benefit, worth.unit)),
            ),
        )

    def reliability(self, found: Reliability) -> Html:
        """Confidence against the share of right answers."""
        rows = [
            [title, *row]
            for title, bins in (("baseline", found.baseline), ("compressed", found.compressed))
            for row in _bin_rows(bins)
        ]
        return self._chart(
            reliability_figure(found),
            caption=f"{found.datamodule}, {found.split} split: of the images on which a model was "
            "so sure, how many did it get right? Below the dotted line it was surer than it may "
            "be. Large marks hold many images; bars are 95 % intervals.",
            told=f"Reliability diagram on {found.datamodule}: {_reliability_told(found)}",
            numbers=table(
                ["model", "confidence", "right", "interval", "images"],
                rows,
                caption="The bins of this figure",
                numeric=("confidence", "right", "interval", "images"),
            ),
        )

    def corruption(self, found: Corruptions) -> Html:
        """Accuracy over severity."""
        rows = [
            [curve.corruption.replace("_", " "), severity, _percent(before), _percent(now)]
            for curve in found.curves
            for severity, before, now in zip(
                curve.severities, curve.baseline, curve.compressed, strict=True
            )
        ]
        drops = {
            curve.corruption: curve.compressed[-1] - curve.baseline[-1] for curve in found.curves
        }
        worst = min(drops, key=lambda name: drops[name])
        return self._chart(
            corruption_figure(found),
            caption=f"{found.datamodule}, {found.split} split: accuracy on images that were "
            "disturbed more and more; severity 0 is the image as it is. Bars are 95 % intervals.",
            told=f"{len(found.curves)} small line charts of accuracy over severity, baseline and "
            f"compressed. At the highest severity the compressed model falls furthest behind "
            f"under {worst.replace('_', ' ')}: {drops[worst] * 100:+.1f} points.",
            numbers=table(
                ["corruption", "severity", "baseline", "compressed"],
                rows,
                caption="The accuracies of this figure, in percent",
                numeric=("severity", "baseline", "compressed"),
            ),
        )

    def changes(self, found: Changes, name_of: NameOf) -> Html:
        """Change of accuracy, part by part."""
        shown = most_changed(found.rows)
        what = f"group of {found.column.replace('_', ' ')}" if found.column else "class"
        limit = (
            ""
            if len(shown) == len(found.rows)
            else (f" Of {len(found.rows)}, the {len(shown)} that changed most.")
        )
        worst = min(shown, key=lambda change: change.row.change or 0.0)
        name = part_name(found, worst, name_of)
        return self._chart(
            changes_figure(found, name_of),
            caption=f"{found.datamodule}, {found.split} split: change of accuracy of each {what}, "
            "with 95 % intervals. Coloured where the interval does not hold 0; of twenty without "
            f"any effect one is expected to be.{limit}",
            told=f"Bar chart of the change of accuracy of each {what}. The lowest: {name}, "
            f"{(worst.row.change or 0.0) * 100:+.1f} points.",
            numbers=table(
                [what, "change, points", "interval", "images", "verdict"],
                [
                    [
                        part_name(found, change, name_of),
                        f"{(change.row.change or 0.0) * 100:+.2f}",
                        _interval(change.row.difference, change=True),
                        change.row.n or "",
                        change.row.verdict,
                    ]
                    for change in shown
                ],
                caption="The bars of this figure",
                numeric=("change, points", "interval", "images"),
            ),
        )

    def matrix(self, pairs: "Sequence[Pair]") -> Html:
        """Every property against every benefit."""
        properties = list(dict.fromkeys(pair.prop for pair in pairs))
        benefits = list(dict.fromkeys(pair.benefit for pair in pairs))
        known = {(pair.prop, pair.benefit): pair.found.spearman for pair in pairs}
        values = [[known.get((prop, benefit)) for benefit in benefits] for prop in properties]
        first = pairs[0]
        return self._chart(
            matrix_figure(properties, benefits, values),
            caption="Rank correlation (Spearman) of each property with each benefit, over "
            "lineages: models made from one baseline count once. The table beneath has intervals "
            "and p-values adjusted for the number of pairs.",
            told=f"Heat map of {len(pairs)} rank correlations. The clearest: {first.prop} with "
            f"{first.benefit}, {first.found.spearman:+.2f}.",
            numbers=table(
                ["pair", "Spearman", "interval", "Pearson", "adjusted p", "lineages", "models"],
                [_pair_row(pair) for pair in pairs],
                caption="The correlations of this figure, the clearest first",
                numeric=("Spearman", "interval", "Pearson", "adjusted p", "lineages", "models"),
            ),
        )

    def _chart(self, figure: "go.Figure", *, caption: str, told: str, numbers: Html) -> Html:
        number = next(self._numbers)
        name = f"figure-{number}"
        height = figure.layout.height
        return tag(
            "figure",
            tag("figcaption", tag("strong", f"Figure {number}. "), caption),
            tag(
                "div",
                id=name,
                class_="plot",
                role="img",
                aria_label=told,
                style=f"height:{height}px",
            ),
            tag(
                "script",
                script_json(figure.to_plotly_json()),
                type="application/json",
                data_figure=name,
            ),
            details(f"Numbers of figure {number}", numbers),
        )


def _unit(title: str, unit: str) -> str:
    return f"{title}, {unit}" if unit and unit not in title else title


def _interval(value: Estimate | None, *, change: bool = False) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return scale_of(value.unit, [value]).show_interval(value.low, value.high, change=change)


def _percent(value: Estimate) -> str:
    return f"{value * 100:.2f} {_interval(value)}"


def _bin_rows(bins: Bins) -> Iterator[list[str]]:
    for confidence, accuracy, low, high, images in zip(
        bins.confidence, bins.accuracy, bins.low, bins.high, bins.counts, strict=True
    ):
        ends = f"[{low * 100:.1f}, {high * 100:.1f}]"
        yield [f"{confidence:.1%}", f"{accuracy:.1%}", ends, f"{images:,}"]


def _reliability_told(found: Reliability) -> str:
    """Mean confidence and accuracy of both models, as a sentence."""
    sides = []
    for title, bins in (("baseline", found.baseline), ("compressed model", found.compressed)):
        total = sum(bins.counts)
        said, right = (
            sum(value * n for value, n in zip(values, bins.counts, strict=True)) / total
            for values in (bins.confidence, bins.accuracy)
        )
        sides.append(f"the {title} is {said:.1%} sure on average and {right:.1%} right")
    return ", ".join(sides) + "."


def _pair_row(pair: "Pair") -> list[str]:
    found = pair.found
    low, high = found.spearman_interval
    return [
        f"{pair.prop} with {pair.benefit}",
        f"{found.spearman:+.3f}",
        f"[{low:+.3f}, {high:+.3f}]",
        f"{found.pearson:+.3f}",
        f"{found.adjusted:.3g}",
        str(found.lineages),
        str(found.models),
    ]
