import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.digits import Digits
from evaluation.pictures import Datasets

DIGITS = {"_target_": "datamodules.digits.Digits", "batch_size": 8, "num_workers": 0}


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(batch_size=8)


def test_a_thumbnail_is_the_sample_and_classes_have_their_names(digits: Digits) -> None:
    datasets = Datasets({"digits": DIGITS})
    png = datasets.thumbnail("digits", "test", 7)
    assert png is not None
    seen = np.asarray(Image.open(io.BytesIO(png)))
    image, _ = digits.dataset("test")[7]
    assert seen.tolist() == (image[0] * 255).round().byte().tolist()
    assert datasets.class_names("digits") == digits.classes


def test_pictures_are_of_the_recorded_data_alone(digits: Digits) -> None:
    datasets = Datasets({"digits": DIGITS})
    assert datasets.absence("digits", "test", digits.manifest("test")) == ""
    other = datasets.absence("digits", "test", "another digest")
    assert other == "the data here are others than those that were recorded"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"_target_": "os.path.Evil"}, "outside the allowed packages"),
        ({"_target_": "datamodules.cifar.CIFAR10", "root": "nowhere", "download": True}, "nowhere"),
    ],
    ids=["class that is not ours", "no folder"],
)
def test_data_that_cannot_be_read_are_told_and_nothing_is_fetched(
    entry: dict[str, object], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    datasets = Datasets({"data": entry})
    assert reason in datasets.absence("data", "test", "m")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_the_run_does_not_name_is_told() -> None:
    datasets = Datasets({})
    assert datasets.absence("digits", "test", "m") == "the run does not say where digits lies"
    assert datasets.class_names("digits") == []
