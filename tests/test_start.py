"""What needs no network starts without torch, whose import takes seconds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "line",
    ["-m compressors list", "-m measurements list"],
)
def test_torch_is_not_imported_for(line: str) -> None:
    command = [sys.executable, "-X", "importtime", *line.split()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    imported = re.findall(r"\| +(\S+)$", ended.stderr, flags=re.MULTILINE)
    assert "rich" in imported  # something was shown
    assert "torch" not in imported
