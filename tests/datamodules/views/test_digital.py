import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules.decoding import decoder_version
from datamodules.views.digital import contrast, elastic_transform, pixelate, saturate
from datamodules.views.registry import view
from datamodules.views.seeding import Draws


def draws(count: int = 1) -> Draws:
    return Draws.of(torch.arange(count), "test")


def test_contrast_keeps_the_mean_of_each_channel() -> None:
    images = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]]]])
    seen = contrast(images, draws(), kept=0.4)
    assert seen.flatten().tolist() == pytest.approx([0.3, 0.7, 0.26, 0.34])


@pytest.mark.parametrize("factor, added", [(0.3, 0.0), (2.0, 0.1), (20.0, 0.2)], ids=str)  # noqa: PT006
@pytest.mark.parametrize("colour", [(0.2, 0.4, 0.1), (0.9, 0.5, 0.7), (0.1, 0.0, 0.0)], ids=str)
def test_saturation_is_that_of_hue_saturation_value(
    colour: tuple[float, ...], factor: float, added: float
) -> None:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    wanted = min(saturation * factor + added, 1.0)
    seen = saturate(torch.tensor(colour).view(1, 3, 1, 1), draws(), factor=factor, added=added)
    expected = colorsys.hsv_to_rgb(hue, wanted, value)
    assert seen.flatten().tolist() == pytest.approx(list(expected), abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3], ids=["one-channel", "three-equal-channels"])
def test_grey_has_no_hue_to_saturate(channels: int) -> None:
    images = torch.rand(2, 1, 4, 4).expand(2, channels, 4, 4)
    seen = view("saturate_5")(images, torch.arange(2))
    torch.testing.assert_close(seen, images)


def test_pixels_become_blocks() -> None:
    ramp = torch.arange(16.0).view(1, 1, 4, 4) / 16
    seen = pixelate(ramp, draws(), resolution=0.5)[0, 0] * 16
    assert seen.tolist() == [
        [2.5, 2.5, 4.5, 4.5],
        [2.5, 2.5, 4.5, 4.5],
        [10.5, 10.5, 12.5, 12.5],
        [10.5, 10.5, 12.5, 12.5],
    ]
    once = pixelate(ramp, draws(), resolution=0.5)
    assert torch.equal(pixelate(once, draws(), resolution=0.5), once)


def test_at_least_one_block_is_left() -> None:
    image = torch.tensor([[[[0.2, 0.4]]]])
    assert pixelate(image, draws(), resolution=0.4).flatten().tolist() == pytest.approx([0.3, 0.3])


def through_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255


def test_jpeg_is_what_pillow_writes_at_the_recorded_quality(small: Tensor) -> None:
    seen = view("jpeg_compression_5")(small[:3], torch.arange(3))
    expected = torch.stack([through_jpeg(image, 40) for image in small[:3]])
    assert torch.equal(seen, expected)


def test_the_library_that_writes_jpeg_identifies_the_view() -> None:
    parameters = view("jpeg_compression_1").describe()["parameters"]
    assert parameters["outside"] == decoder_version()
    assert parameters["small"] == {"quality": 80}


def test_every_pixel_moves_by_the_recorded_distance_on_average() -> None:
    columns = torch.arange(32, dtype=torch.float32).expand(16, 1, 32, 32) / 64
    seen = elastic_transform(columns, draws(16), amplitude_px=0.8, sigma_px=2.5)
    moved = (seen - columns)[..., 4:-4] * 64
    # a blurred field is stronger at the edges, where nothing can be seen of it; here it is 0.7
    assert moved.square().mean().sqrt().item() == pytest.approx(0.7, rel=0.1)
    assert moved.mean().item() == pytest.approx(0, abs=0.15)


def test_an_elastic_field_is_smooth_and_the_samples_own() -> None:
    columns = torch.arange(32, dtype=torch.float32).expand(8, 1, 32, 32) / 64
    moved = (elastic_transform(columns, draws(8), amplitude_px=1.0, sigma_px=2.5) - columns) * 64
    steps = (moved[:, :, 1:] - moved[:, :, :-1])[..., 4:-4]
    assert steps.square().mean().sqrt() < 0.5
    assert (moved[0] - moved[1]).abs().mean() > 0.3
    rows = columns.mT
    fallen = (elastic_transform(rows, draws(8), amplitude_px=1.0, sigma_px=2.5) - rows) * 64
    both = torch.stack([moved[..., 4:-4, 4:-4].flatten(), fallen[..., 4:-4, 4:-4].flatten()])
    assert torch.corrcoef(both)[0, 1].abs() < 0.5
