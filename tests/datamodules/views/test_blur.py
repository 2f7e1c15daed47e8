import pytest
import torch
from torch import Tensor

from datamodules.views.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from datamodules.views.filtering import gaussian_blurred, zoomed
from datamodules.views.registry import view
from datamodules.views.seeding import Draws

BLURS = ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "glass_blur"]


def point(side: int = 9) -> Tensor:
    image = torch.zeros(1, 1, side, side)
    image[..., side // 2, side // 2] = 1
    return image


def draws(count: int = 1) -> Draws:
    return Draws.of(torch.arange(count), "test")


@pytest.mark.parametrize("kind", BLURS)
def test_a_blank_image_stays(kind: str) -> None:
    blank = torch.full((2, 3, 16, 16), 0.3)
    seen = view(f"{kind}_5")(blank, torch.arange(2))
    torch.testing.assert_close(seen, blank, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", BLURS)
def test_a_blur_takes_contrast_between_neighbours_away(kind: str) -> None:
    noise = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mildest, strongest = (view(f"{kind}_{s}")(noise, torch.arange(4)) for s in (1, 5))
    assert strongest.std() < mildest.std() < noise.std()


def test_a_point_out_of_focus_is_a_disc_with_a_soft_rim() -> None:
    seen = defocus_blur(point(), draws(), radius_px=1.0)[0, 0]
    # weights (1 - distance) / 1.5 + 0.5 in [0, 1]: 1 (above it), 0.5, 0.2239; sum 3.8954
    assert seen[4, 4].item() == pytest.approx(1 / 3.8954, abs=1e-4)
    assert seen[4, 5].item() == pytest.approx(0.5 / 3.8954, abs=1e-4)
    assert seen[5, 5].item() == pytest.approx(0.2239 / 3.8954, abs=1e-4)
    assert seen[4, 6].item() == pytest.approx(0, abs=1e-6)
    assert seen.sum().item() == pytest.approx(1)


def test_motion_goes_nearly_sideways_in_another_direction_for_each_sample() -> None:
    seen = motion_blur(point(15).expand(64, 1, 15, 15), draws(64), length_px=8.0)[:, 0]
    torch.testing.assert_close(seen.sum(dim=(1, 2)), torch.ones(64))
    steps = torch.arange(15) - 7.0
    wide = (seen.sum(dim=1) * steps**2).sum(dim=1)
    tall = (seen.sum(dim=2) * steps**2).sum(dim=1)
    assert (wide > 0.9 * tall).all()
    assert tall.min() < 0.5 < 3 < tall.max()


def test_a_zoom_blur_is_the_mean_of_enlargements() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = zoom_blur(images, draws(2), zoom=1.25)  # a corner moves 4 pixels: 3 steps
    parts = [images, *(zoomed(images, 1 + 0.25 * step / 3) for step in (1, 2, 3))]
    torch.testing.assert_close(seen, torch.stack(parts).mean(dim=0), rtol=0, atol=1e-6)


def test_glass_moves_the_recorded_share_of_the_pixels() -> None:
    noise = torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = glass_blur(noise, draws(8), sigma_px=1e-3, share=0.25, reach_px=1.5)
    moved = (seen - noise).abs() > 1e-5
    # a drawn step is 0, 1 or -1 with a third each: one place in nine is the pixel itself
    assert moved.double().mean().item() == pytest.approx(0.25 * 8 / 9, abs=0.03)


def test_glass_without_moves_is_two_gaussian_blurs() -> None:
    noise = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = glass_blur(noise, draws(2), sigma_px=0.8, share=0.0, reach_px=3.0)
    expected = gaussian_blurred(gaussian_blurred(noise, 0.8), 0.8)
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-6)


def test_glass_shows_pixels_from_within_its_reach() -> None:
    columns = torch.arange(32.0).expand(1, 1, 32, 32) / 32
    seen = glass_blur(columns, draws(), sigma_px=1e-3, share=1.0, reach_px=2.0)
    steps = ((seen - columns) * 32).round().abs()
    assert steps.max() == 2
    assert set(steps.unique().tolist()) == {0.0, 1.0, 2.0}
