"""Sweeps of the entry files that commit files and no cells, each start in this very process."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import launch
from core.origin import ROOT
from store import receipts

pytestmark = pytest.mark.slow

COMMANDS = {
    "compress": ("compressor.sparsity=0.3", ",0.4", ["compressor=level"]),
    "train": (
        "seed=0",
        ",1",
        ["mode=local_test", "wandb.mode=disabled", "trainer.accelerator=cpu"],
    ),
}


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Output of `python <entry>.py -m <overrides>`, with code that nobody edits meanwhile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "code_digest", lambda: "code")
    monkeypatch.setattr(receipts, "code_digest", lambda: "code")

    def call(entry: str, *overrides: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [str(ROOT / f"{entry}.py"), "-m", *overrides])
        with pytest.raises(SystemExit) as ended:
            getattr(importlib.import_module(entry), entry)()
        told = capsys.readouterr()
        assert not ended.value.code, told.err
        return told.out, told.err

    return call


@pytest.mark.parametrize("entry", COMMANDS)
def test_a_sweep_does_only_what_is_missing(
    entry: str, typed: Callable[..., tuple[str, str]]
) -> None:
    first, another, rest = COMMANDS[entry]
    out, _ = typed(entry, first, *rest)
    assert "1 of 1 done" in out
    out, err = typed(entry, first + another, *rest)
    assert "1 of 2 jobs are committed already, 1 to start" in err
    assert "2 of 2 done" in out
