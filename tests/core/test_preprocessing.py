import json
from typing import Any

import pytest

from core.digest import digest
from core.preprocessing import Preprocessing


def test_the_short_side_is_resized_to_the_floor_of_size_by_crop() -> None:
    assert Preprocessing(size=(224, 224), crop=0.9).resized == (248, 248)  # 224 / 0.9 = 248.9


def test_a_native_size_is_not_resized() -> None:
    assert Preprocessing(crop=0.5).resized is None


def test_channels_follow_from_the_mean() -> None:
    assert Preprocessing(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)).channels == 3


@pytest.mark.parametrize("crop", [0.0, -0.5, 1.01])
def test_a_crop_outside_its_range_is_refused(crop: float) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        Preprocessing(crop=crop)


@pytest.mark.parametrize(
    "values",
    [{"mean": (0.5,) * 3}, {"mean": (0.5,) * 2, "std": (1.0,) * 2}],
    ids=["lengths differ", "two channels"],
)
def test_means_that_fit_no_image_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one value a channel, 1 or 3"):
        Preprocessing(**values)


def test_it_can_be_part_of_a_key() -> None:
    ours = Preprocessing(size=(32, 32))
    assert digest(ours.as_dict()) == digest(json.loads(json.dumps(ours.as_dict())))
