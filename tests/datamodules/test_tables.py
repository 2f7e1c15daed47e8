import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import DataError
from datamodules.dollar_street import DollarStreet, quartiles
from datamodules.geode import GeoDE


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)


def table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def street(tmp_path: Path, cache: Path) -> Path:
    """Four homes; the columns that are read among others that are not."""
    place = tmp_path / "dataset_dollarstreet"
    rows = []
    for i, (ids, income, region) in enumerate(
        [
            ("[898, 440]", "1000", "eu"),
            ("[412]", "30.5", "af"),
            ("[532]", "90", "as"),
            ("[7]", "300", "am"),
        ]
    ):
        rows.append(
            {
                "id": f"5d4be{i}",
                "country.name": "Elsewhere, far",
                "region.id": region,
                "imageRelPath": f"assets/5d4be{i}/{i}.jpg",
                "topics": "['Stoves']",
                "income": income,
                "imagenet_synonyms": "['a', 'b']",
                "imagenet_sysnet_id": ids,
            }
        )
        picture(place / rows[-1]["imageRelPath"], 10 * i)
    table(place / "images_v2_imagenet_test.csv", rows)
    return tmp_path


def test_an_image_has_its_first_class_all_its_classes_and_its_groups(street: Path) -> None:
    data = DollarStreet(root=str(street))
    assert data.faults("test") == []
    assert data.labels("test").tolist() == [898, 412, 532, 7]
    assert data.label_sets("test") == [(898, 440), (412,), (532,), (7,)]
    assert data.groups("test") == {
        "income_quartile": ["highest", "lowest", "lower", "upper"],
        "region": ["europe", "africa", "asia", "americas"],
    }
    assert set(data.groups("test")) == set(data.group_columns)
    assert data.num_classes == 1000
    assert data.sample_path("test", 3) == "assets/5d4be3/3.jpg"
    assert data.dataset("test")[1][0].mean().item() == pytest.approx(10 / 255, abs=0.01)


def test_equal_incomes_stay_in_one_quarter() -> None:
    assert quartiles(np.array([5.0, 5.0, 5.0, 5.0, 8.0])).tolist() == [0, 0, 0, 0, 3]


def test_labels_beyond_the_first_are_in_the_digest(street: Path) -> None:
    before = DollarStreet(root=str(street)).manifest("test")
    path = street / "dataset_dollarstreet/images_v2_imagenet_test.csv"
    path.write_text(path.read_text().replace("[898, 440]", "[898, 441]"))
    assert DollarStreet(root=str(street)).manifest("test") != before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("imagenet_sysnet_id", "imagenet_synset_id", "expected the columns imagenet_sysnet_id"),
        (
            "[412]",
            "[]",
            r"expected imagenet_sysnet_id as a list of classes in 0\.\.999, got '\[\]'",
        ),
        ("[412]", "[1000]", r"list of classes in 0\.\.999"),
        ("[412]", "chair", "got 'chair'"),
        ("30.5", "unknown", "expected income as a number of at least 0, got 'unknown'"),
        ("30.5", "nan", "expected income"),
    ],
    ids=["column", "no class", "foreign class", "no list", "no income", "nan"],
)
def test_what_cannot_be_understood_is_a_fault(street: Path, old: str, new: str, told: str) -> None:
    path = street / "dataset_dollarstreet/images_v2_imagenet_test.csv"
    path.write_text(path.read_text().replace(old, new))
    (fault,) = DollarStreet(root=str(street)).faults("test")
    with pytest.raises(DataError, match=told):
        raise DataError(fault)


def test_images_that_are_not_there_are_counted(street: Path) -> None:
    for i in (0, 2):
        (street / f"dataset_dollarstreet/assets/5d4be{i}/{i}.jpg").unlink()
    (fault,) = DollarStreet(root=str(street)).faults("test")
    assert "2 of 4 images" in fault
    assert "assets/5d4be0/0.jpg, assets/5d4be2/2.jpg" in fault


@pytest.fixture
def geode(tmp_path: Path, cache: Path) -> Path:
    rows = []
    for i, (thing, region) in enumerate(
        [("stove", "Africa"), ("bag", "Europe"), ("tree", "Africa")]
    ):
        rows.append(
            {
                "file_path": f"{i}.{thing}/a {i}.jpg",
                "object": thing,
                "region": region,
                "ip_country": "X",
            }
        )
        picture(tmp_path / "images" / rows[-1]["file_path"], i)
    table(tmp_path / "index.csv", rows)
    return tmp_path


def test_the_objects_are_the_classes_and_regions_the_groups(geode: Path) -> None:
    data = GeoDE(root=str(geode))
    assert data.faults("test") == []
    assert data.classes == ["bag", "stove", "tree"]
    assert data.labels("test").tolist() == [1, 0, 2]
    assert data.groups("test") == {"region": ["Africa", "Europe", "Africa"], "country": ["X"] * 3}
    assert data.label_space is None
    assert data.dataset("test")[0][0].shape == (3, 4, 4)


def test_a_mapping_makes_it_a_question_to_a_model_of_imagenet(geode: Path) -> None:
    mapping = geode / "mapping.json"
    mapping.write_text(json.dumps({"stove": [827, 544], "bag": [414], "tree": []}))
    data = GeoDE(root=str(geode), mapping=str(mapping))
    assert data.classes == ["bag", "stove"]
    assert data.label_space is not None
    assert data.label_space.members == ((414,), (827, 544))
    assert data.labels("test").tolist() == [1, 0]
    assert data.manifest("test") != GeoDE(root=str(geode)).manifest("test")


def test_a_mapping_of_unknown_objects_is_a_fault(geode: Path) -> None:
    mapping = geode / "mapping.json"
    mapping.write_text(json.dumps({"stof": [827]}))
    (fault,) = GeoDE(root=str(geode), mapping=str(mapping)).faults("test")
    assert "unknown object 'stof', did you mean 'stove'" in fault
    (fault,) = GeoDE(root=str(geode), mapping="/nowhere.json").faults("test")
    assert fault.endswith("mapping: no such file /nowhere.json")
