from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.estimate import Estimate
from reporting.page.material import (
    Bins,
    Corruptions,
    Curve,
    Material,
    Reliability,
    read_material,
)
from reporting.papers import (
    corruption_figure,
    reliability_figure,
    trade_off_figure,
    write_figures,
)
from store.layout import Layout


def lines_of(figure: Any, place: int = 0) -> dict[str, tuple[list[float], list[float]]]:
    """Points of the series by their label."""
    axes = figure.axes[place]
    found = {line.get_label(): line for line in axes.get_lines()}
    found |= {held.get_label(): held.lines[0] for held in axes.containers}
    return {name: (list(one.get_xdata()), list(one.get_ydata())) for name, one in found.items()}


def test_a_trade_off_is_drawn_from_the_numbers_of_the_store(layout: Layout) -> None:
    (found,) = read_material(layout, benefit="accuracy").trade_offs
    drawn = lines_of(trade_off_figure(found))
    assert drawn["baseline"] == ([269_722.0], [0.975])
    assert drawn["compressed"] == ([83_614.0], [0.95])
    assert drawn["Pareto front"] == ([83_614.0, 269_722.0], [0.95, 0.975])


def test_reliability_and_corruption_are_drawn_from_what_was_read() -> None:
    def bins(accuracy: float) -> Bins:
        return Bins(confidence=[0.8], accuracy=[accuracy], low=[0.4], high=[0.9], counts=[5])

    both = Reliability(datamodule="d", split="test", baseline=bins(0.75), compressed=bins(0.5))
    drawn = lines_of(reliability_figure(both))
    assert (drawn["baseline"], drawn["compressed"]) == (([0.8], [0.75]), ([0.8], [0.5]))

    def values(*numbers: float) -> list[Estimate]:
        return [Estimate(number, low=number - 0.1, high=number + 0.1) for number in numbers]

    curves = [
        Curve(
            corruption=name,
            severities=[0, 5],
            baseline=values(0.75, 0.5),
            compressed=values(0.75, last),
        )
        for name, last in (("fog", 0.25), ("snow", 0.125))
    ]
    figure = corruption_figure(Corruptions(datamodule="d", split="test", curves=curves))
    assert lines_of(figure, 0)["compressed"] == ([0, 5], [0.75, 0.25])
    assert lines_of(figure, 1)["compressed"] == ([0, 5], [0.75, 0.125])


def test_the_same_numbers_give_the_same_file(layout: Layout, tmp_path: Path) -> None:
    found = read_material(layout, benefit="accuracy")
    (one,) = write_figures(found, tmp_path / "one", ["svg"])
    (two,) = write_figures(found, tmp_path / "two", ["svg"])
    assert one.name == "trade_off_digits_test_accuracy_params.svg"
    assert one.read_bytes() == two.read_bytes()


def test_a_format_that_does_not_exist_and_nothing_to_draw_are_told(
    empty: Layout, write: Callable[..., None], tmp_path: Path
) -> None:
    nothing = Material(pairs=[], trade_offs=[], associations=[])
    with pytest.raises(LookupError, match=r"some of pdf, svg, png, got \['jpg'\]"):
        write_figures(nothing, tmp_path, ["jpg"])
    with pytest.raises(LookupError, match="the store holds nothing to draw"):
        write_figures(nothing, tmp_path, ["pdf"])
