"""What needs no network starts without torch, whose import takes seconds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("-m compressors list", 0),
        ("-m measurements list", 0),
        ("evaluate.py datasets=[digit]", 2),
        ("report.py results_dir=there_is_no_such_folder", 2),
    ],
)
def test_torch_is_not_imported_for(line: str, code: int) -> None:
    command = [sys.executable, "-X", "importtime", *line.split()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    imported = re.findall(r"\| +(\S+)$", ended.stderr, flags=re.MULTILINE)
    assert (ended.returncode, "torch" in imported) == (code, False)
