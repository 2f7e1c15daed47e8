import importlib.util
from importlib.metadata import distribution
from pathlib import Path

import pytest

from datamodules import synsets


def _indices(name: str) -> list[int]:
    path = distribution("timm").locate_file(f"timm/data/_info/{name}_indices.txt")
    return [int(line) for line in Path(str(path)).read_text().split()]


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_label_spaces_are_the_published_indices(name: str) -> None:
    space = synsets.label_space(name)
    assert [index for (index,) in space.members] == _indices(name)
    assert (len(space), space.model_classes, space.name) == (200, 1000, name)


def test_the_thousand_classes_are_sorted_and_named() -> None:
    ids = synsets.wnids()
    assert list(ids) == sorted(set(ids))
    names = synsets.names(ids)
    assert (len(names), len(set(names))) == (1000, 1000)
    assert (names[0], names[954], names[999]) == ("tench", "banana", "toilet tissue")


def test_without_timm_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    synsets._folder.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        synsets._folder()
