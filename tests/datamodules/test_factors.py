"""Generated images of known factors."""

import numpy as np
import pytest

from datamodules.factors import VALUES, Factors

SOURCE = Factors().read("test")
FACTORS = Factors().factors("test")
IMAGES = SOURCE.pixels[:, 0].astype(float)


def test_every_combination_is_there_once() -> None:
    rows = np.stack(list(FACTORS.values()), axis=1)
    assert rows.shape == (900, 5) == (Factors().count("test"), len(VALUES))
    assert len(set(map(tuple, rows.tolist()))) == 900
    assert len({image.tobytes() for image in SOURCE.pixels}) == 900


@pytest.mark.parametrize(("axis", "name"), [(1, "x"), (0, "y")], ids=["x", "y"])
def test_squares_and_discs_are_where_the_factors_say(axis: int, name: str) -> None:
    round_ones = SOURCE.labels < 2
    mass = IMAGES[round_ones].sum(axis=2 - axis)
    centre = (mass * (np.arange(32) + 0.5)).sum(axis=1) / mass.sum(axis=1)
    np.testing.assert_allclose(centre, np.array(VALUES[name])[FACTORS[name][round_ones]])


def test_size_and_brightness_are_what_the_factors_say() -> None:
    brightness = np.array(VALUES["brightness"])[FACTORS["brightness"]]
    np.testing.assert_array_equal(IMAGES.max(axis=(1, 2)), brightness)
    reach = np.array(VALUES["size"])[FACTORS["size"]]
    area = IMAGES.sum(axis=(1, 2)) / brightness / reach**2
    # a square has side 2 r, a disc the area pi r^2, a triangle half the square
    expected = np.array([4, np.pi, 2])[SOURCE.labels]
    np.testing.assert_allclose(area, expected, rtol=0.03)


def test_groups_name_the_values_and_the_samples() -> None:
    assert SOURCE.groups["shape"][0] == "square"
    assert {name: len(set(column)) for name, column in SOURCE.groups.items()} == {
        "shape": 3,
        "size": 3,
        "x": 5,
        "y": 5,
        "brightness": 4,
    }
    assert SOURCE.name(899) == "triangle-8-22-22-255"
    assert Factors().foreign
