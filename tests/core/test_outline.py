import inspect
from pathlib import Path

import pytest

from core import outline as outlines
from core.outline import outline

MIXED = """
from abc import ABC
from elsewhere import Foreign
from basics import Base as Own

class Mixed(Own, Foreign, ABC):
    unit, version = "ms", 2
    kind: ClassVar[Kind] = "benefit"
    needs = frozenset({"images"})
    computed = len("abc")
    raise RuntimeError("this runs nowhere")

class Silent(Mixed):
    needs = frozenset()
"""
BASICS = '''
class Base:
    """What it is.

    More of it.
    """
    better = "lower"
    unit = ""
'''


@pytest.fixture(autouse=True)
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modules in a folder of their own, in the place of the repository."""
    (tmp_path / "basics.py").write_text(BASICS)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "mixed.py").write_text(MIXED)
    monkeypatch.setattr(outlines, "ROOT", tmp_path)
    for remembers in (outlines.outline, outlines._names):
        monkeypatch.setattr(outlines, remembers.__name__, remembers.__wrapped__)


def test_constants_and_words_are_read_and_inherited() -> None:
    mixed, silent = (outline(f"package.mixed.{name}") for name in ("Mixed", "Silent"))
    assert (mixed.unit, mixed.version, mixed.kind, mixed.better) == ("ms", 2, "benefit", "lower")
    assert (mixed.needs, silent.needs, silent.unit) == ({"images"}, frozenset(), "ms")
    assert inspect.getdoc(silent) == "What it is.\n\nMore of it."
    assert (silent.__name__, silent.__module__) == ("Silent", "package.mixed")
    assert not hasattr(mixed, "computed")


def test_a_name_that_is_imported_is_found_where_it_is_from() -> None:
    assert outline("package.mixed.Own").__module__ == "basics"


@pytest.mark.parametrize("target", ["package.mixed.Nothing", "package.Mixed", "torch.nn.Module"])
def test_what_is_not_there_is_told(target: str) -> None:
    with pytest.raises(LookupError, match=f"there is no class '{target}'"):
        outline(target)
