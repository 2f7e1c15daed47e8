"""What needs no network starts without torch, whose import takes seconds; the rest takes more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("line", "code", "left_out"),
    [
        ("-m compressors list", 0, "torch"),
        ("-m measurements list", 0, "torch"),
        ("evaluate.py datasets=[digit]", 2, "torch"),
        ("report.py results_dir=there_is_no_such_folder", 2, "torch"),
        pytest.param(
            "evaluate.py compressor=l1_filter compressor.sparsity=1.5",
            2,
            "lightning_fabric",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_command_starts_without(line: str, code: int, left_out: str) -> None:
    command = [sys.executable, "-X", "importtime", *line.split()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    imported = re.findall(r"\| +(\S+)$", ended.stderr, flags=re.MULTILINE)
    assert (ended.returncode, left_out in imported) == (code, False)
