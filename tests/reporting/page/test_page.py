"""The page as a browser reads it: what is in it, what is left out, and what it never does."""

import html
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.estimate import Estimate
from reporting.page.page import page
from store.layout import Layout
from store.records import RecordWriter
from store.runs import Run, write_run
from tests.reporting.conftest import BASE, PRUNED

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"
PNG = b"\x89PNG\r\n\x1a\n"
COMMAND = "To fill this part: "

LOADS = {"src", "href", "srcset", "data", "poster", "action"}
VOID = {"meta", "img", "br", "hr", "link", "input"}


@dataclass
class Read(HTMLParser):
    """Elements, text and figures of a page; every element has to be closed in order."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        _name, attributes = self.tags[-1] if self.tags else ("", {})
        if self._open[-1:] == ["script"]:
            if attributes.get("type") == "application/json":
                self.figures[str(attributes["data-figure"])] = json.loads(data)
        elif self._open[-1:] != ["style"]:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(text: str) -> Read:
    parser = Read()
    parser.feed(text)
    parser.close()
    assert not parser._open
    return parser


@dataclass
class Pictures:
    """Every sample has the same picture; classes have the names that are given."""

    names: list[str] = field(default_factory=list)
    absent: str = ""

    def absence(self, datamodule: str, split: str, dataset: str) -> str:
        assert (datamodule, split, dataset) == ("digits", "test", "m")
        return self.absent

    def thumbnail(self, datamodule: str, split: str, sample: int) -> bytes:
        assert not self.absent, "no picture is asked for where there is none"
        return PNG + bytes([sample])

    def class_names(self, datamodule: str) -> list[str]:
        return self.names


@pytest.fixture
def full(layout: Layout, write: Callable[..., None]) -> Layout:
    """The small store with records of two views, classes, groups and costs."""
    for compressor, shift in (("none", 0), ("l1_filter", 1)):
        for view, wrong in (("clean", 1), ("fog_1", 2), ("fog_3", 4)):
            ids = np.arange(12)
            columns: dict[str, np.ndarray] = {
                "sample_id": ids,
                "label": ids % 3,
                "predicted": (ids + (ids < wrong + shift)) % 3,
                "confidence": np.linspace(0.4, 1, 12, dtype=np.float32),
            }
            parts = {"model": f"weights of {compressor}", "split": "test", "subset": None}
            with RecordWriter(layout, f"{compressor}-{view}") as writer:
                writer.append(columns)
                described = {**parts, "dataset": "m", "view": {"name": view}}
                writer.commit({"parts": described, "datamodule": "digits", "classes": 3})

    def share(value: float, low: float, high: float) -> Estimate:
        return Estimate(value, n=12, low=low, high=high, unit="fraction", better="higher")

    for run_id, value in ((BASE, 0.75), (PRUNED, 0.5)):
        write(
            run_id,
            "per_class_accuracy",
            digits_test_accuracy_class_1=share(value, 0.1, 0.9),
            digits_test_group_accuracy_eye_colour_dark=share(value, 0.1, 0.9),
            digits_test_group_gap_null_eye_colour=share(0.1, 0.1, 0.1),
        )
    write(
        PRUNED,
        "delta.per_class_accuracy",
        digits_test_delta_accuracy_class_1=share(-0.25, -0.4, -0.1),
        digits_test_delta_group_accuracy_eye_colour_dark=share(-0.25, -0.6, 0.1),
    )
    return layout


@pytest.fixture(autouse=True)
def light_script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The five megabytes that draw are left out where nothing is drawn."""
    if "slow" not in request.keywords:
        monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "/* plotly */")


def traces(parser: Read, name: str) -> dict[str, dict[str, Any]]:
    """Traces of a figure by name; of several with one name the first."""
    found: dict[str, dict[str, Any]] = {}
    for trace in parser.figures[name]["data"]:
        found.setdefault(trace.get("name", ""), trace)
    return found


def test_nothing_is_loaded_and_the_policy_of_the_page_allows_nothing_else(full: Layout) -> None:
    parser = read(page(full, pictures_of=lambda run: Pictures()))
    loads = [value or "" for _, held in parser.tags for key, value in held.items() if key in LOADS]
    assert loads
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loads)
    (policy,) = (one["content"] or "" for one in parser.attributes("meta") if "http-equiv" in one)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")


def test_the_style_sheet_loads_nothing(full: Layout) -> None:
    style = re.search(r"<style>(.*?)</style>", page(full), re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|http", style[1])


def test_a_hostile_class_name_is_text_everywhere(full: Layout) -> None:
    names = [HOSTILE, f"{HOSTILE}1", "c"]
    parser = read(page(full, pictures_of=lambda run: Pictures(names)))
    assert all("onerror" not in held for held in parser.attributes("img"))
    assert len(parser.attributes("script")) == len(parser.figures) + 2
    assert f"label: {HOSTILE}" in parser.text
    bars = next(f["data"][0] for f in parser.figures.values() if f["data"][0]["type"] == "bar")
    assert bars["y"] == [html.escape(f"{HOSTILE}1")]


def test_a_hostile_model_name_is_text(empty: Layout, write: Callable[..., None]) -> None:
    run = Run(run_id="r", model=HOSTILE, compressor=HOSTILE, baseline=BASE, fingerprint="", seed=0)
    write_run(empty, run)
    parser = read(page(empty, "r"))
    assert f"The model {HOSTILE} was compressed by the recipe {HOSTILE}" in parser.text
    assert parser.attributes("img") == []


def test_the_figures_hold_the_numbers_of_the_store(full: Layout) -> None:
    parser = read(page(full))
    trade, reliability, fog, classes, groups = parser.figures
    worth = traces(parser, trade)
    assert (worth["baseline"]["x"], worth["baseline"]["y"]) == ([269_722.0], [0.975])
    assert (worth["compressed"]["x"], worth["compressed"]["y"]) == ([83_614.0], [0.95])
    assert worth["compressed"]["error_y"]["array"] == pytest.approx([0.018])
    assert worth["compressed"]["error_y"]["arrayminus"] == pytest.approx([0.028])
    assert worth["Pareto front"]["x"] == [83_614.0, 269_722.0]
    curves = traces(parser, fog)
    assert curves["baseline"]["x"] == [0, 1, 3]
    assert curves["baseline"]["y"] == pytest.approx([11 / 12, 10 / 12, 8 / 12])
    assert curves["compressed"]["y"] == pytest.approx([10 / 12, 9 / 12, 7 / 12])
    for name, part, low in ((classes, "class 1", -0.4), (groups, "dark", -0.6)):
        (bars,) = parser.figures[name]["data"]
        assert (bars["x"], bars["y"]) == ([-0.25], [part])
        assert bars["x"][0] - bars["error_x"]["arrayminus"][0] == pytest.approx(low)
    shares = traces(parser, reliability)["compressed"]
    assert shares["x"] == sorted(shares["x"])
    assert shares["y"][0] == 0.0  # the least confident two of twelve are the wrong ones
    assert shares["y"][-1] == 1.0


def test_every_figure_is_told_in_words_and_repeated_as_a_table(full: Layout) -> None:
    parser = read(page(full))
    plots = [held for held in parser.attributes("div") if held.get("class") == "plot"]
    assert [held["id"] for held in plots] == list(parser.figures)
    assert all(held["role"] == "img" and held["aria-label"] for held in plots)
    for place in range(1, len(plots) + 1):
        assert f"Numbers of figure {place}" in parser.text


def test_the_gallery_shows_picture_label_and_both_answers(full: Layout) -> None:
    parser = read(page(full, pictures_of=lambda run: Pictures(["cat", "dog", "cow"])))
    (picture,) = parser.attributes("img")
    assert picture["alt"] == "sample 1, labelled dog, dog before and cow compressed"
    assert picture["src"] == "data:image/png;base64,iVBORw0KGgoB"
    assert "baseline: dog, 45.5% sure" in parser.text
    assert "compressed: cow, 45.5% sure" in parser.text


def test_a_gallery_without_data_says_so_and_keeps_the_answers(full: Layout) -> None:
    absent = Pictures(absent="no folder digits")
    parser = read(page(full, pictures_of=lambda run: absent))
    assert "The pictures are not on this machine: no folder digits." in parser.text
    assert parser.attributes("img") == []
    assert "compressed: class 2, 45.5% sure" in parser.text


@pytest.mark.parametrize(
    "sentence",
    [
        "Neither model has looked at disturbed images yet. To fill this part: python evaluate.py "
        "model=digits_cnn measurement_group=robustness",
        "The store holds no records of both models. To fill this part: python evaluate.py",
        "No change was measured class by class. To fill this part: python evaluate.py",
        "No change was measured group by group. To fill this part: python evaluate.py",
        "There is no table yet",
    ],
    ids=["corruption", "records", "classes", "groups", "association"],
)
def test_a_part_without_data_says_which_command_would_fill_it(
    layout: Layout, sentence: str
) -> None:
    assert sentence in read(page(layout)).text


def test_the_summary_has_a_row_a_run_and_one_run_needs_none(layout: Layout) -> None:
    text = read(page(layout)).text
    assert "All compressed models" in text
    assert re.search(r"95\.00 %-2\.50 pt \[-4\.44, -0\.56\] ▼ worse", text.replace("\n", ""))
    assert "0.31x" in text
    assert "Compressed models, one row a run" not in read(page(layout, PRUNED)).text


def test_a_store_of_baselines_says_how_to_compress(write: Callable[..., None], tmp_path: Path,
                                                   layout: Layout) -> None:  # fmt: skip
    shutil.rmtree(layout.run(PRUNED))
    text = read(page(layout)).text
    assert "The store holds no compressed model. To fill this part: python evaluate.py" in text
    assert "97.50" in text


def test_the_page_can_be_read_by_a_machine_that_reads_aloud(full: Layout) -> None:
    parser = read(page(full))
    assert parser.attributes("html") == [{"lang": "en"}]
    assert len(parser.attributes("title")) == len(parser.attributes("h1")) == 1
    levels = [int(name[1]) for name, _ in parser.tags if re.fullmatch(r"h\d", name)]
    assert all(now <= before + 1 for before, now in itertools.pairwise(levels))
    ids = [held["id"] for _, held in parser.tags if "id" in held]
    assert len(ids) == len(set(ids))
    targets = {held["href"] for held in parser.attributes("a")}
    assert targets <= {f"#{name}" for name in ids}
    assert all(held.get("scope") for held in parser.attributes("th"))


def test_colours_can_be_told_from_light_and_dark_ground() -> None:
    from reporting.page import figures

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    drawn = ("BASELINE", "COMPRESSED", "BETTER", "WORSE", "NEITHER")
    for ground in ("#ffffff", "#14171a"):
        for name in drawn:
            both = sorted([luminance(ground), luminance(getattr(figures, name))])
            assert (both[1] + 0.05) / (both[0] + 0.05) >= 3, name


@pytest.mark.slow
def test_a_browser_draws_every_figure_without_a_complaint(full: Layout, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    file = tmp_path / "report.html"
    file.write_text(page(full, pictures_of=lambda run: Pictures(["cat", "dog", "cow"])))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    seen = subprocess.run(
        [browser, *options, "--virtual-time-budget=20000", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in seen.stderr
    assert seen.stdout.count('class="plot js-plotly-plot"') == 5
    assert seen.stdout.count('class="main-svg"') >= 5
