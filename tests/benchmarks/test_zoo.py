"""The zoo measures a network in a process of its own, keeps it, and writes its table."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "zoo.py"
ACHIEVED = {
    "params_before": 11_689_512,
    "params_after": 3_055_880,
    "macs_before": 1_814_073_344,
    "macs_after": 482_894_848,
    "latency_ratio": 0.404,
}


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    return importlib.import_module("benchmarks.zoo")


def result(*notes: str) -> dict[str, Any]:
    layers = {"removed_layers": 20, "masked_layers": len(notes)}
    return {"achieved": ACHIEVED, **layers, "notes": list(notes)}


def test_a_row_tells_what_went_and_what_is_in_the_way(zoo: ModuleType) -> None:
    zeroed = "filters are zero instead of removed, so size and latency stay, because view | cat"
    assert zoo.row("R", result("the head stays", f"a: {zeroed}", f"b: {zeroed}")) == (
        "| R | 11.7 -> 3.06 M | 1814 -> 483 M | 0.40 | 20 / 3 | view / cat |"
    )


def test_a_network_that_failed_has_its_reason(zoo: ModuleType) -> None:
    assert zoo.row("R", {"failed": "no\nway"}) == "| R | | | | | no way |"


def test_the_table_stands_between_its_markers_however_often(
    zoo: ModuleType, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\n".join(zoo.MARKERS) + "\nafter\n")
    for line in ("| old |", "| new |"):
        zoo.write_between(page, [line])
    assert page.read_text() == (f"before\n{zoo.MARKERS[0]}\n\n| new |\n\n{zoo.MARKERS[1]}\nafter\n")
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="has no markers"):
        zoo.write_between(page, ["| new |"])


def test_other_code_measures_anew(zoo: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert zoo.found(path, "a") is None
    path.write_text(json.dumps({**result(), "code": "a"}))
    assert zoo.found(path, "b") is None
    assert zoo.found(path, "a")["removed_layers"] == 20


def test_the_page_has_the_markers(zoo: ModuleType) -> None:
    text = zoo.PAGE.read_text()
    assert [text.count(marker) for marker in zoo.MARKERS] == [1, 1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_measured_network_is_kept(tmp_path: Path) -> None:
    first = run("ResNet-56", "--results", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert "0.853 -> 0.215 M" in first.stdout
    stored = tmp_path / "resnet_56.json"
    content = json.loads(stored.read_text())
    content["removed_layers"] = 7
    stored.write_text(json.dumps(content))
    assert "| 7 / 0 |" in run("ResNet-56", "--results", str(tmp_path)).stdout


@pytest.mark.slow
def test_an_unknown_network_shows_those_there_are() -> None:
    answer = run("ResNet-57")
    assert answer.returncode == 2
    assert "unknown: ResNet-57; known: ResNet-18" in answer.stderr
