from typing import Any

import numpy as np
import pytest

from datamodules.textures import Textures


def test_patches_are_cut_where_the_photograph_has_them() -> None:
    from sklearn.datasets import load_sample_image

    textures = Textures(
        samples=Textures(size=(100, 100), channels=3).most, size=(100, 100), channels=3
    )
    # 4 x 6 patches a photograph; every third is of the test split: 2, 5, 8 = row 1, column 2
    assert textures.count("test") == 16
    china = load_sample_image("china.jpg")
    pixels = textures.source("test").pixels  # type: ignore[attr-defined]
    assert np.array_equal(pixels[2], china[100:200, 200:300].transpose(2, 0, 1))
    assert textures.labels("test").tolist() == [0] * 8 + [1] * 8


def test_grey_is_the_luma_of_the_colours() -> None:
    options = {"samples": 5, "size": (9, 7)}
    grey, colour = (Textures(channels=n, **options).source("val").pixels for n in (1, 3))  # type: ignore
    expected = np.rint(np.einsum("ncij,c->nij", colour, [0.299, 0.587, 0.114]))
    assert np.array_equal(grey[:, 0], expected)


def test_no_patch_is_in_two_splits_and_both_photographs_are_in_each() -> None:
    textures = Textures(samples=100)
    names = [textures.sample_path(split, i) for split in textures.splits for i in range(100)]
    assert len(set(names)) == 300
    shares = [np.bincount(textures.labels(split)) for split in textures.splits]
    assert np.abs(np.array(shares) - 50).max() <= 1


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"channels": 2}, "channels"),
        ({"size": (0, 8)}, "size"),
        ({"samples": 2827}, "samples in 1..2826, the patches of 8 x 8 pixels"),
        ({"samples": 0}, "samples"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_cut_is_a_fault(options: dict[str, Any], key: str) -> None:
    (fault,) = Textures(**options).faults("test")
    assert key in fault


def test_every_argument_that_decides_images_is_in_the_digest() -> None:
    changes = [{}, {"samples": 9}, {"size": (4, 3)}, {"channels": 3}]
    assert len({Textures(**change).manifest("test") for change in changes}) == 4  # type: ignore
