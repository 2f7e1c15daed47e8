"""The README tells the truth: its commands exist, its configurations compose, its links lead on."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from compressors.__main__ import parser as compressors_parser
from core.app import CONFIG
from measurements.__main__ import parser as measurements_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md"]
DEFAULTS = {
    "evaluate.py": "evaluate_defaults",
    "compress.py": "compress_defaults",
    "train.py": "train_defaults",
    "report.py": "report_defaults",
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def commands() -> list[str]:
    """Every command line of the shell blocks of every page, continuation lines joined."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.partition(" #")[0].strip() for line in lines]
    return sorted({" ".join(line.split()) for line in found if line})


def links() -> list[tuple[str, str]]:
    return [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text())
        if "://" not in link
    ]


def test_there_are_commands_and_links() -> None:
    assert len(commands()) > 10
    assert links()


@pytest.mark.parametrize("line", commands())
def test_a_command_is_one_that_exists(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        assert set(arguments) <= TARGETS
    elif program == "sh":
        assert (ROOT / arguments[0]).is_file()
    elif arguments[:2] == ["-m", "measurements"]:
        assert measurements_parser().parse_args(arguments[2:])
    elif arguments[:2] == ["-m", "compressors"]:
        assert compressors_parser().parse_args(arguments[2:])
    elif program == "python" and arguments[0] in DEFAULTS:
        _compose(arguments[0], arguments[1:])
    else:
        assert program in ("python", ".", "pip", "git", "pre-commit", "pytest"), line


@pytest.mark.parametrize(("page", "link"), links())
def test_a_link_leads_to_a_file(page: str, link: str) -> None:
    assert (ROOT / page).parent.joinpath(link).exists()


def _compose(script: str, arguments: list[str]) -> None:
    """Compose what the command asks for; of a sweep, the first job."""
    words = [word for word in arguments if "=" in word]
    sweep = "-m" in arguments
    overrides = [re.sub(r"^([^\[]*?),.*$", r"\1", word) if sweep else word for word in words]
    assert (ROOT / script).is_file()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        assert compose(DEFAULTS[script], overrides=overrides)
