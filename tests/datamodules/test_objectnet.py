import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import DataError
from datamodules import synsets
from datamodules.objectnet import ObjectNet

TITLES = {"alarm_clock": "Alarm clock", "banana": "Banana", "air_freshener": "Air freshener"}
OVERLAP = {"Banana": "banana", "Alarm clock": "analog clock; digital clock"}


@pytest.fixture
def published(tmp_path: Path, cache: Path) -> Path:
    """Three classes, of which ImageNet knows two; the label list runs backwards."""
    place = tmp_path / "objectnet-1.0"
    (place / "mappings").mkdir(parents=True)
    words = [name.split(" (n")[0] for name in synsets.names(synsets.wnids())]
    (place / "mappings/imagenet_to_label_2012_v2").write_text("\n".join(words[::-1]) + "\n")
    write_json(place, "pytorch_to_imagenet_2012_id.json", {str(i): 999 - i for i in range(1000)})
    write_json(place, "folder_to_objectnet_label.json", TITLES)
    write_json(place, "objectnet_to_imagenet_1k.json", OVERLAP)
    for i, folder in enumerate(TITLES):
        pixels = np.zeros((8, 9, 3), np.uint8)
        pixels[..., 0] = 255  # the red border
        pixels[2:-2, 2:-2] = 10 * i
        (place / "images" / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(place / "images" / folder / f"{i}.png")
    return tmp_path


def write_json(place: Path, name: str, content: object) -> None:
    (place / "mappings" / name).write_text(json.dumps(content))


def test_only_classes_that_imagenet_knows_are_read(published: Path) -> None:
    objectnet = ObjectNet(root=str(published))
    assert objectnet.faults("test") == []
    assert objectnet.classes == ["Alarm clock", "Banana"]
    assert objectnet.count("test") == 2
    assert objectnet.labels("test").tolist() == [0, 1]
    assert objectnet.sample_path("test", 0) == "images/alarm_clock/0.png"


def test_the_label_space_is_the_published_mapping(published: Path) -> None:
    # analog clock 409, digital clock 530 and banana 954 in the order of torchvision's models
    space = ObjectNet(root=str(published)).label_space
    assert (space.members, space.model_classes) == (((409, 530), (954,)), 1000)
    logits = torch.zeros(1, 1000)
    logits[0, [530, 954, 0]] = torch.tensor([2.0, 1.0, 9.0])
    assert space.restrict(logits).tolist() == [[2.0, 1.0]]


def test_the_red_border_is_cut_off(published: Path) -> None:
    image, _ = ObjectNet(root=str(published)).dataset("test")[1]
    assert image.shape == (3, 4, 5)
    assert image.unique().tolist() == pytest.approx([10 / 255])


def test_the_root_may_be_the_inner_folder(published: Path) -> None:
    inner = ObjectNet(root=str(published / "objectnet-1.0"))
    assert inner.manifest("test") == ObjectNet(root=str(published)).manifest("test")


def test_the_mapping_is_in_the_digest(published: Path) -> None:
    before = ObjectNet(root=str(published)).manifest("test")
    changed = {**OVERLAP, "Alarm clock": "analog clock"}
    write_json(published / "objectnet-1.0", "objectnet_to_imagenet_1k.json", changed)
    assert ObjectNet(root=str(published)).manifest("test") != before


def test_images_of_other_classes_are_not_in_the_digest(published: Path) -> None:
    before = ObjectNet(root=str(published)).manifest("test")
    (published / "objectnet-1.0/images/air_freshener/2.png").unlink()
    assert ObjectNet(root=str(published)).manifest("test") == before


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda p: (p / "mappings/imagenet_to_label_2012_v2").unlink(),
            "imagenet_to_label_2012_v2 not found",
            id="no-label-list",
        ),
        pytest.param(
            lambda p: (p / "images/banana").rename(p / "images/bananas"),
            "expected 2 class folders .* found none for banana",
            id="no-class-folder",
        ),
        pytest.param(
            lambda p: (p / "images/banana/1.png").unlink(), "no image in images/banana", id="empty"
        ),
    ],
)
def test_what_is_missing_is_a_sentence(published: Path, damage: Damage, message: str) -> None:
    damage(published / "objectnet-1.0")
    with pytest.raises(FileNotFoundError, match=message):
        ObjectNet(root=str(published)).dataset("test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(
            "objectnet_to_imagenet_1k.json",
            {"Sofa": "banana"},
            "'Sofa', expected it in folder_to",
            id="unknown-title",
        ),
        pytest.param(
            "objectnet_to_imagenet_1k.json",
            {"Banana": "bannana"},
            "exactly one line 'bannana' .* got 0",
            id="unknown-label",
        ),
        pytest.param(
            "objectnet_to_imagenet_1k.json",
            {"Banana": "crane"},
            "exactly one line 'crane' .* got 2",
            id="ambiguous-label",
        ),
        pytest.param(
            "pytorch_to_imagenet_2012_id.json", {"0": 0}, "1000 lines .* and 1 indices", id="short"
        ),
        pytest.param("folder_to_objectnet_label.json", ["a"], "JSON object, got list", id="list"),
    ],
)
def test_mappings_that_contradict_each_other_are_refused(
    published: Path, name: str, content: object, message: str
) -> None:
    write_json(published / "objectnet-1.0", name, content)
    with pytest.raises(DataError, match=message):
        ObjectNet(root=str(published)).dataset("test")


def test_a_damaged_mapping_is_named(published: Path) -> None:
    path = published / "objectnet-1.0/mappings/folder_to_objectnet_label.json"
    path.write_text("{half")
    with pytest.raises(DataError, match=r"folder_to_objectnet_label\.json is damaged"):
        _ = ObjectNet(root=str(published)).classes
    (fault,) = ObjectNet(root=str(published)).faults("test")
    assert f"{path} is damaged: expected JSON" in fault


def test_the_width_of_the_border_is_in_the_digest(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ObjectNet(root=str(published)).manifest("test")
    monkeypatch.setattr(ObjectNet, "border", 1)
    assert ObjectNet(root=str(published)).manifest("test") != before
