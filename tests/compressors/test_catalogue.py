import inspect
from pathlib import Path
from typing import Any

import pytest
from omegaconf import MISSING, OmegaConf

from compressors.__main__ import main
from compressors.base import Compressor
from compressors.catalogue import FAMILIES, catalogue
from core.targets import resolve

ROOT = Path(__file__).resolve().parents[2]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_the_page_has_the_recipes_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "list", "--format", "markdown")
    assert told in (ROOT / "docs" / "compressors.md").read_text(), (
        "docs/compressors.md is not up to date: put the output of "
        "python -m compressors list --format markdown there"
    )


def test_every_file_is_listed_and_none_is_cut() -> None:
    files = {path.stem for path in (ROOT / "config" / "compressor").glob("*.yaml")} - {"none"}
    assert catalogue().keys() == files
    assert all(one.family in FAMILIES for one in catalogue().values())
    assert all(one.meaning.count("(") == one.meaning.count(")") for one in catalogue().values())


def test_no_line_of_a_file_is_wider_than_the_code() -> None:
    for path in (ROOT / "config" / "compressor").glob("*.yaml"):
        assert [line for line in path.read_text().splitlines() if len(line) > 100] == [], path.name


def defaults_of(kind: type[Compressor]) -> dict[str, Any]:
    """What is taken for an option that is left out, where it can be; lists for tuples."""
    found: dict[str, Any] = {}
    for owner in reversed(kind.__mro__[: kind.__mro__.index(Compressor)]):
        for name, option in inspect.signature(owner.__init__).parameters.items():
            value = option.default
            found[name] = list(value) if isinstance(value, tuple) else value
    return {name: value for name, value in found.items() if value is not inspect.Parameter.empty}


@pytest.mark.parametrize("name", [n for n, one in catalogue().items() if one.type])
def test_a_class_takes_what_its_file_says_for_an_option_that_is_left_out(name: str) -> None:
    stated: Any = OmegaConf.to_container(OmegaConf.load(ROOT / f"config/compressor/{name}.yaml"))
    kind = resolve(stated["_target_"], expects=Compressor)
    chosen = {k: value for k, value in stated.items() if k != "name" and value != MISSING}
    defaults = {key: value for key, value in defaults_of(kind).items() if key in chosen}
    assert defaults == {key: chosen[key] for key in defaults}


def test_a_recipe_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "describe", "taylor_fo_weight")
    assert "Removes the filters whose loss would cost least" in told
    assert "\n\nExpect: fewer channels" in told
    assert "needs   data\n" in told
    assert "  statistics_batches: 1" in told
    assert "op_names" in told
    assert "Molchanov" in told.partition("reference")[2]


def test_what_only_changes_the_runtime_chooses_no_layers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = said(capsys, "describe", "ort")
    assert "op_names" not in told
    assert "nothing but the weights" in told


def test_an_unknown_name_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "low_rnk"]) == 2
    assert "did you mean 'low_rank'?" in capsys.readouterr().err


def test_the_list_says_each_name_once(capsys: pytest.CaptureFixture[str]) -> None:
    first = [line.split("  ")[0].strip() for line in said(capsys, "list").splitlines()]
    assert all(first.count(name) == 1 for name in catalogue())
