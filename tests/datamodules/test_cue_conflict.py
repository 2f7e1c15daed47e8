"""The published layout of the cue-conflict images, and the 16 classes."""

from pathlib import Path

import pytest
from PIL import Image

from core.errors import DataError
from datamodules.cue_conflict import MEMBERS, CueConflict, members
from datamodules.synsets import names, wnids


def written(folder: Path, *more: str) -> Path:
    """Each shape once, in the texture of the next class, and some more files."""
    shapes = list(MEMBERS)
    textures = [*shapes[1:], shapes[0]]
    files = [f"{a}/{a}1-{b}2.png" for a, b in zip(shapes, textures, strict=True)]
    for name in (*files, *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def test_the_16_classes_are_made_of_the_published_imagenet_classes() -> None:
    sizes = dict(zip(MEMBERS, map(len, members()), strict=True))
    assert sizes == {
        "airplane": 1,
        "bear": 4,
        "bicycle": 2,
        "bird": 49,
        "boat": 5,
        "bottle": 7,
        "car": 3,
        "cat": 6,
        "chair": 4,
        "clock": 3,
        "dog": 109,
        "elephant": 2,
        "keyboard": 2,
        "knife": 1,
        "oven": 1,
        "truck": 8,
    }
    every = [index for part in members() for index in part]
    assert len(set(every)) == len(every)
    words = names(tuple(wnids()[part[0]] for part in members()))
    assert words[0] == "airliner"
    assert words[7] == "tabby"
    assert words[13:15] == ["cleaver", "rotisserie"]


@pytest.mark.parametrize("below", ["", "stimuli/style-transfer-preprocessed-512"])
def test_shape_and_texture_are_in_the_names(tmp_path: Path, below: str) -> None:
    written(tmp_path / below, "cat/cat9-cat3.png")
    data = CueConflict(root=str(tmp_path))
    assert data.faults("test") == []
    assert data.count("test") == 17
    groups = data.groups("test")
    assert groups["shape"][7:9] == ["cat", "cat"]
    assert groups["texture"][7:9] == ["chair", "cat"]
    assert data.labels("test").tolist()[7:10] == [7, 7, 8]
    assert data.foreign


@pytest.mark.parametrize("name", ["cat/dog1-cat2.png", "cat/cat1-tin2.png", "cat/cat.png"])
def test_a_name_that_says_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected a name like cat1-bicycle2"):
        CueConflict(root=str(written(tmp_path, name))).read("test")


def test_what_is_missing_is_told_with_the_key_to_set(tmp_path: Path) -> None:
    (fault,) = CueConflict(root=str(tmp_path)).faults("test")
    assert f"16 class folders in {tmp_path}" in fault
    assert "dataset_library.cue_conflict.root" in fault
