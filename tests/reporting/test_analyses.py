import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from reporting import analysis_figures
from reporting.analyses import analysis_text, write_analysis
from reporting.analysis_figures import cost_figure, costliest, dependency_figure, sensitivity_figure

SENSITIVITY: dict[str, Any] = {
    "baseline": 0.9,
    "sparsities": [0.25, 0.5],
    "scores": {"conv": [0.85], "first.conv": [0.9, 0.5]},
    "tied": {"conv": ["conv", "last.conv"], "first.conv": ["first.conv"]},
    "left_out": {},
}
DEPENDENCY: dict[str, Any] = {
    "sets": [
        {"layers": ["a", "b"], "filters": {"a": 4, "b": 8}, "groups": {"g": 2}, "fixed": ""},
        {"layers": ["fc"], "filters": {"fc": 10}, "groups": {}, "fixed": "fc makes the logits"},
    ],
    "unknown": {},
}
COST: dict[str, Any] = {
    "layers": [
        {
            "name": "conv", "type": "Conv2d", "weight_shape": [4, 1, 3, 3], "macs": 144,
            "params": 36, "input_size": [1, 4, 4], "output_size": [4, 2, 2],
        },
        {
            "name": "", "type": "Net", "weight_shape": [4], "macs": 0, "params": 4,
            "input_size": [1, 4, 4], "output_size": [2],
        },
    ],
    "params": 40,
    "macs": 144,
}  # fmt: skip
FOUND = {"sensitivity": SENSITIVITY, "dependency": DEPENDENCY, "cost": COST}


@pytest.fixture(autouse=True)
def plain_backend() -> None:
    mpl.use("agg")


def rows(kind: str) -> list[str]:
    text = analysis_text(kind, "net", FOUND[kind], ["a note"])
    return [" ".join(line.split()) for line in text.splitlines()]


def test_sensitivities_are_a_table_with_empty_cells() -> None:
    lines = rows("sensitivity")
    assert lines[1:4] == ["layer 0.25 0.5 pruned with it", "conv 85 last.conv", "first.conv 90 50"]
    assert lines[-1] == "a note"


def test_sets_tell_what_else_has_to_be_so() -> None:
    lines = rows("dependency")
    assert "1 4/8 a, b equally many in 2 groups of g" in lines
    assert "2 10 fc fc makes the logits" in lines


def test_costs_add_up() -> None:
    lines = rows("cost")
    assert "conv Conv2d 4x1x3x3 1x4x4 4x2x2 144 100.00 36 90.00" in lines
    assert "(the model) Net 4 1x4x4 2 0 0.00 4 10.00" in lines
    assert "all 144 100.00 40 100.00" in lines


def test_cells_of_the_heat_map_say_the_score_in_percent() -> None:
    axes = sensitivity_figure(SENSITIVITY).axes[0]
    assert [text.get_text() for text in axes.texts] == ["85", "90", "50"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (0, 1), (1, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "first.conv"]


def test_what_was_not_measured_is_empty_and_hatched() -> None:
    gap = {**SENSITIVITY, "scores": {"conv": [None, 0.5], "first.conv": [0.9]}}
    axes = sensitivity_figure(gap).axes[0]
    assert [text.get_text() for text in axes.texts] == ["50", "90"]
    ((patch,), hatch) = axes.patches, axes.patches[0].get_hatch()
    assert (patch.get_xy(), hatch) == ((-0.5, -0.5), "////")
    lines = analysis_text("sensitivity", "net", gap, []).splitlines()
    assert lines[2].split() == ["conv", "50", "last.conv"]


def test_tied_layers_are_joined_by_a_line() -> None:
    axes = dependency_figure(DEPENDENCY).axes[0]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines == [([0, 0], [0, 1]), ([1], [2])]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a  4", "b  8", "fc  10"]


def test_bars_are_shares_of_the_whole() -> None:
    left, right = cost_figure(COST).axes
    assert [bar.get_width() for bar in left.patches] == [100, 0]
    assert [bar.get_width() for bar in right.patches] == [90, 10]


def test_layers_that_cost_next_to_nothing_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [
        {"name": name, "macs": macs, "params": params}
        for name, macs, params in [("a", 600, 100), ("b", 1, 1), ("c", 396, 4), ("d", 3, 895)]
    ]
    names = [row["name"] for row in costliest(layers)]
    assert names == ["a", "c", "d", "1 others"]
    monkeypatch.setattr(analysis_figures, "MOST_BARS", 2)
    *kept, others = costliest(layers)
    assert [row["name"] for row in kept] == ["a", "d"]
    assert others == {"name": "2 others", "macs": 397, "params": 5}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOUND)
def test_files_are_written_and_the_same_again(kind: str, tmp_path: Path) -> None:
    files = write_analysis(kind, FOUND[kind], "a,b\n", tmp_path / "one")
    endings = ("csv", "json", "png", "pdf")
    assert [path.name for path in files] == [f"{kind}.{ending}" for ending in endings]
    assert files[0].read_text() == "a,b\n"
    assert json.loads(files[1].read_text()) == FOUND[kind]
    again = write_analysis(kind, FOUND[kind], "a,b\n", tmp_path / "two")
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
