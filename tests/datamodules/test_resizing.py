import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as published

from core.preprocessing import Preprocessing
from datamodules.resizing import centre, covering_size, fit, fit_planes, to_planes

SIZES = [(40, 60), (60, 40), (33, 47), (16, 16), (17, 200)]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES, ids=[f"{h}x{w}" for h, w in SIZES])
@pytest.mark.parametrize("side", [15, 24, 64], ids=["smaller", "middle", "larger"])
def test_pixels_are_those_of_the_published_evaluation(
    interpolation: str, size: tuple[int, int], side: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    wanted = Preprocessing(size=(side, side), crop=0.875, interpolation=interpolation)  # type: ignore[arg-type]
    resized = published.resize(image, [int(side / 0.875)], InterpolationMode(interpolation))
    expected = published.center_crop(resized, [side, side])
    assert np.array_equal(np.asarray(fit(image, wanted)), np.asarray(expected))


@pytest.mark.parametrize(
    ("height", "width", "box", "expected"),
    [
        pytest.param(300, 401, (256, 256), (256, 342), id="wide: 256 * 401 / 300 = 342.2"),
        pytest.param(401, 300, (256, 256), (342, 256), id="tall"),
        pytest.param(100, 100, (50, 80), (80, 80), id="square-into-wide-box"),
        pytest.param(100, 300, (50, 80), (50, 150), id="wide-into-wide-box"),
        pytest.param(3, 3, (7, 7), (7, 7), id="enlarged"),
    ],
)
def test_the_resized_image_covers_the_box(
    height: int, width: int, box: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert covering_size(height, width, box) == expected


def test_half_a_pixel_goes_to_the_even_neighbour() -> None:
    assert [centre(outer, 2) for outer in (2, 3, 4, 5, 7)] == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    "preprocessing",
    [None, Preprocessing(), Preprocessing(size=(4, 6), crop=0.5)],
    ids=["none", "no-size", "has-the-size-already"],
)
def test_an_image_that_fits_is_left_alone(preprocessing: Preprocessing | None) -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    assert fit(image, preprocessing) is image


def test_planes_are_resized_as_the_colour_image_is(noise: np.ndarray) -> None:
    wanted = Preprocessing(size=(20, 20), crop=0.9, interpolation="bicubic")
    together = to_planes(fit(Image.fromarray(noise), wanted))
    apart = fit_planes(noise.transpose(2, 0, 1), wanted)
    assert np.array_equal(apart, together)
    assert torch.from_numpy(together).is_contiguous()
