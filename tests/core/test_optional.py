import sys
from pathlib import Path

import pytest

from core.errors import MissingDependency
from core.optional import require


def test_what_is_installed_is_imported() -> None:
    assert require("json", extra="serve").dumps([]) == "[]"


def test_what_is_not_installed_tells_the_command() -> None:
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[serve\]'"):
        require("no_such_package_at_all", extra="serve")


def test_a_broken_package_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import no_such_package_at_all\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all") as raised:
        require("half_there", extra="serve")
    assert not isinstance(raised.value, MissingDependency)
