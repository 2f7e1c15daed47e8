"""`python -m measurements` tells the truth about the library."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from core.app import CONFIG
from core.errors import NotApplicable
from measurements import catalogue, rehearsal
from measurements.__main__ import main
from measurements.catalogue import Described, sections
from measurements.rehearsal import rehearse

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = {
    name
    for path in (CONFIG / "measurement_library").glob("*.yaml")
    for name in OmegaConf.load(path)
    if name != "defaults"
}


@pytest.fixture(scope="module")
def entries() -> dict[str, Described]:
    return catalogue.catalogue()


@pytest.fixture
def said(
    entries: dict[str, Described], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., str]:
    """What a command line that ends well writes."""
    monkeypatch.setattr(catalogue, "catalogue", lambda: entries)

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


def test_every_entry_is_listed_with_its_kinds_together(said: Callable[..., str]) -> None:
    rows = json.loads(said("list", "--format", "json"))
    assert {row["name"] for row in rows} == LIBRARY
    kinds = [row["kind"] for row in rows]
    assert kinds == sorted(kinds, key=["benefit", "property", "paired"].index)
    assert [row for row in rows if row["name"] == "conformal"] == [
        {
            "name": "conformal",
            "kind": "property",
            "unit": "fraction",
            "better": "",
            "needs": ["logits", "records"],
            "meaning": "Coverage and size of the sets that promise to miss the label in at most "
            "`miss` of the cases.",
        }
    ]


def test_the_list_is_cut_to_a_kind_and_a_group(said: Callable[..., str]) -> None:
    group = OmegaConf.load(CONFIG / "measurement_group" / "calibration.yaml").measurements
    rows = json.loads(said("list", "--format=json", "--group=calibration"))
    assert {row["name"] for row in rows} == set(group)
    paired = json.loads(said("list", "--format=json", "--group=calibration", "--kind=paired"))
    assert [row["name"] for row in paired] == [r["name"] for r in rows if r["kind"] == "paired"]


def test_a_line_of_the_table_is_not_broken(said: Callable[..., str]) -> None:
    (line,) = [line for line in said("list").splitlines() if line.startswith("nll ")]
    assert re.split(r"  +", line) == [
        "nll",
        "nats",
        "lower",
        "records",
        "Mean of -log p(label), in nats; ln C for a uniform prediction.",
    ]


def test_the_page_in_docs_names_every_measurement(said: Callable[..., str]) -> None:
    page = (ROOT / "docs" / "measurements.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(named) == sorted(LIBRARY), (
        "run: python -m measurements list --format markdown > docs/measurements.md"
    )
    assert re.findall(r"^\| `(\w+)` \|", said("list", "--format=markdown"), flags=re.M) == named


def test_a_description_has_all_its_parts(said: Callable[..., str]) -> None:
    text = said("describe", "calibration_debiased", "--quick")
    for part in (
        "Squared calibration error with the binning bias subtracted",
        "Computed: Sum over bins of n_b/n [(acc - conf)^2 - acc (1 - acc) / (n_b - 1)].",
        "kind     property\nunit     none\nbetter   lower\nneeds    records\nversion  1\n",
        "groups   all, base, calibration, compression, imagenet\n",
        "reference\n  Kumar et al., Verified uncertainty calibration (2019)",
        "run\n  python evaluate.py measurements=[calibration_debiased]\n",
    ):
        assert part in text
    assert "parameters" not in text
    assert "results" not in text


def test_a_parameter_has_its_value_and_its_words(said: Callable[..., str]) -> None:
    text = said("describe", "latency", "--quick")
    assert "  measurement_library.latency.batch_size=1\n      Images of a latency call.\n" in text
    assert "experiment_config" not in text


def test_what_is_paired_is_run_with_a_compressor(entries: dict[str, Described]) -> None:
    assert "measurements=[mcnemar] compressor=" in entries["mcnemar"].command
    assert "measurements=[accuracy,delta] compressor=" in entries["delta"].command


def test_a_heading_divides_a_docstring() -> None:
    text = "A share: of all.\n\nArgs:\n    miss: Allowed,\n        in (0, 1).\n\nReference:\n    X."
    assert sections(text) == {
        "": "A share: of all.",
        "Args": "miss: Allowed,\n    in (0, 1).",
        "Reference": "X.",
    }


@pytest.mark.slow
def test_results_have_the_names_that_an_evaluation_gives() -> None:
    assert set(rehearse("accuracy")) == {"digits_test_accuracy", "digits_test_top5_accuracy"}
    assert "digits_test_delta_accuracy" in rehearse("delta")
    assert "model_test_latency_p50_ms" in rehearse("latency")
    with pytest.raises(NotApplicable):
        rehearse("group_fairness")


def test_why_there_are_no_results_is_told(
    said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> dict[str, float]:
        raise NotApplicable(f"{name} has no meaning")

    monkeypatch.setattr(rehearsal, "rehearse", refuse)
    assert "results\n  not on the embedded digits: nll has no meaning" in said("describe", "nll")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["describe", "acuracy"], "unknown measurement 'acuracy', did you mean 'accuracy'?"),
        (["list", "--group", "bas"], "unknown measurement group 'bas', did you mean 'base'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    line: list[str],
    told: str,
    entries: dict[str, Described],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(catalogue, "catalogue", lambda: entries)
    assert main(line) == 2
    assert told in capsys.readouterr().err
