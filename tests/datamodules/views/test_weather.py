import colorsys

import pytest
import torch
from torch import Tensor

from datamodules.views.registry import view
from datamodules.views.seeding import Draws
from datamodules.views.weather import MUD, brightness, fog, grey, power_law_field, snow, spatter


def draws(count: int = 1) -> Draws:
    return Draws.of(torch.arange(count), "test")


def pixel(*values: float) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    "colour", [(0.2, 0.4, 0.1), (0.9, 0.5, 0.7), (0.3, 0.3, 0.3), (0.0, 0.0, 0.0)], ids=str
)
def test_brightness_raises_the_value_of_hue_saturation_value(colour: tuple[float, ...]) -> None:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1.0))
    seen = brightness(pixel(*colour), draws(), added=0.3)
    assert seen.flatten().tolist() == pytest.approx(list(expected), abs=1e-6)


def test_grey_gets_brighter_by_what_is_added() -> None:
    seen = view("brightness_5")(torch.tensor([[[[0.0, 0.5, 0.9]]]]), torch.arange(1))
    assert seen.flatten().tolist() == pytest.approx([0.3, 0.8, 1.0])


def test_a_field_fills_the_unit_interval_and_its_power_falls_with_frequency() -> None:
    blank = torch.zeros(64, 3, 32, 32)
    field = power_law_field(draws(64), blank, 1.7)
    assert field.shape == (64, 1, 32, 32)
    assert field.amin(dim=(1, 2, 3)).tolist() == [0.0] * 64
    assert field.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 64)
    power = torch.fft.rfft(field[:, 0], dim=2).abs().square()
    along = torch.fft.fft(field[:, 0], dim=1).abs().square()
    assert power.mean(dim=(0, 1))[1] > 20 * power.mean(dim=(0, 1))[8]
    assert along.mean(dim=(0, 2))[1] > 20 * along.mean(dim=(0, 2))[8]


def test_amplitudes_are_the_power_of_the_frequency() -> None:
    blank = torch.zeros(400, 1, 16, 16)
    field = power_law_field(draws(400), blank, 1.0)
    # rescaling is another factor for each sample: compare frequencies within one
    power = torch.fft.fft2(field[:, 0]).abs().square()
    ratio = (power[:, 0, 1].mean() / power[:, 0, 4].mean()).item()
    assert ratio == pytest.approx(16, rel=0.25)  # (4 / 1) ** 2


def test_fog_keeps_the_brightest_pixel_of_a_clear_image() -> None:
    images = torch.full((3, 3, 16, 16), 0.4)
    images[:, :, 0, 0] = 0.8
    seen = fog(images, draws(3), thickness=1.0, smoothness=1.7)
    clouds = power_law_field(draws(3), images, 1.7)
    torch.testing.assert_close(seen, (images + clouds) * (0.8 / 1.8), rtol=0, atol=1e-6)
    assert seen.max() <= 0.8 + 1e-6


def test_snow_is_white_and_covers_more_with_more_flakes() -> None:
    black = torch.zeros(16, 3, 32, 32)
    shares = []
    for share in (0.01, 0.04):
        seen = snow(black, draws(16), share=share, length_px=3.0, whiteness=0.0)
        assert 0 <= seen.min() <= seen.max() <= 1
        assert (seen > 0.99).any()
        shares.append((seen > 0.5).double().mean().item())
    assert 0.01 < shares[0] < shares[1] < 0.3


def test_without_a_flake_snow_whitens_the_scene() -> None:
    scene = pixel(0.2, 0.4, 0.6).expand(1, 3, 4, 4)
    seen = snow(scene, draws(), share=0.0, length_px=3.0, whiteness=0.5)
    luma = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6  # 0.363, so the grey version is 1 at most
    white = min(luma * 1.5 + 0.5, 1.0)
    expected = [(value + white) / 2 for value in (0.2, 0.4, 0.6)]
    assert seen[0, :, 2, 2].tolist() == pytest.approx(expected, abs=1e-6)


def test_streaks_fall_steeply() -> None:
    black = torch.zeros(64, 1, 32, 32)
    seen = snow(black, draws(64), share=0.002, length_px=8.0, whiteness=0.0)
    down = (seen[:, :, 1:] * seen[:, :, :-1]).sum()
    sideways = (seen[..., 1:] * seen[..., :-1]).sum()
    assert down > 1.5 * sideways


def test_grey_of_a_colour_is_its_luma_and_of_others_their_mean() -> None:
    assert grey(pixel(1.0, 0.0, 0.5)).item() == pytest.approx(0.299 + 0.057)
    assert grey(pixel(0.2, 0.4)).item() == pytest.approx(0.3)


@pytest.mark.parametrize("share", [0.05, 0.25], ids=str)
def test_spatter_covers_the_recorded_share_with_mud(share: float) -> None:
    white = torch.ones(64, 3, 32, 32)
    seen = spatter(white, draws(64), share=share, size_px=1.0)
    half = (1 + torch.tensor(MUD)) / 2
    covered = (seen < half[None, :, None, None] + 1e-6).double().mean(dim=(0, 2, 3))
    assert covered.tolist() == pytest.approx([share] * 3, rel=0.1)
    assert seen.amin(dim=(0, 2, 3)).tolist() == pytest.approx(list(MUD), abs=1e-6)
    assert (seen == 1).any()
