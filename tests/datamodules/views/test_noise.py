import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from datamodules.views.noise import impulse_noise, poisson_table, shot_noise
from datamodules.views.registry import CORRUPTIONS, view
from datamodules.views.seeding import Draws

IDS = torch.arange(16)


def flat(value: float, side: int = 32) -> Tensor:
    return torch.full((16, 3, side, side), value)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("side", [32, 160], ids=["small", "large"])
def test_gaussian_noise_has_the_recorded_deviation(severity: int, side: int) -> None:
    kind = CORRUPTIONS["gaussian_noise"]
    sd = {32: (0.04, 0.06, 0.08, 0.09, 0.10), 160: (0.08, 0.12, 0.18, 0.26, 0.38)}[side]
    constants = kind.constants(severity, side)
    assert constants == {"sd": sd[severity - 1]}
    images = flat(0.5, side)
    noise = kind.apply(images, Draws.of(IDS, "test"), **constants) - images  # before the clip
    relative_error = 4 / (2 * noise.numel()) ** 0.5
    assert noise.std().item() == pytest.approx(sd[severity - 1], rel=relative_error)
    assert noise.mean().item() == pytest.approx(0, abs=4 * sd[severity - 1] / noise.numel() ** 0.5)


def test_channels_have_noise_of_their_own() -> None:
    noise = view("gaussian_noise_3")(flat(0.5), IDS) - 0.5
    red, green = noise[:, 0].flatten(), noise[:, 1].flatten()
    assert abs((red * green).mean() / red.var()) < 0.04


def test_speckle_grows_with_the_pixel() -> None:
    dark, bright = (view("speckle_noise_1")(flat(value), IDS) - value for value in (0.2, 0.6))
    assert dark.std().item() == pytest.approx(0.2 * 0.06, rel=0.02)
    assert bright.std().item() == pytest.approx(0.6 * 0.06, rel=0.02)
    assert not view("speckle_noise_5")(flat(0.0), IDS).any()


def test_impulses_hit_the_recorded_share_half_of_them_white() -> None:
    seen = view("impulse_noise_5")(flat(0.5), IDS)
    white, black = (seen == 1).double().mean(), (seen == 0).double().mean()
    four_deviations = 4 * (0.035 / seen.numel()) ** 0.5
    assert white.item() == pytest.approx(0.035, abs=four_deviations)
    assert black.item() == pytest.approx(0.035, abs=four_deviations)
    assert set(seen.unique().tolist()) == {0.0, 0.5, 1.0}


def test_all_or_no_pixels_may_be_hit() -> None:
    draws = Draws.of(IDS, "test")
    assert not (impulse_noise(flat(0.5), draws, share=1.0) == 0.5).any()
    assert (impulse_noise(flat(0.5), draws, share=0.0) == 0.5).all()


@pytest.mark.parametrize("photons", [3.0, 60.0, 500.0], ids=str)
@pytest.mark.parametrize("level", [0, 1, 51, 255], ids=str)
def test_photons_are_counted_as_poisson_says(photons: float, level: int) -> None:
    seen = shot_noise(flat(level / 255), Draws.of(IDS, "test"), photons=photons)
    counts = (seen * photons).round().numpy().ravel()
    assert np.allclose(counts, seen.numpy().ravel() * photons, atol=1e-3)
    rate = photons * level / 255
    assert counts.mean() == pytest.approx(rate, abs=4 * (rate / counts.size) ** 0.5 + 1e-12)
    below = stats.poisson.cdf(np.arange(counts.max() + 1), rate)
    found = np.searchsorted(np.sort(counts), np.arange(counts.max() + 1), side="right")
    # Kolmogorov's bound of one in 3000 for 49152 numbers
    assert np.abs(found / counts.size - below).max() < 2.1 / counts.size**0.5


@pytest.mark.parametrize("photons", [3.0, 50.0, 500.0], ids=str)
def test_the_shortcut_gives_what_the_search_gives(photons: float) -> None:
    table, shortcut = poisson_table(photons)
    counts = len(table) // 256
    queries = np.random.default_rng(0).integers(0, 256 << 22, 20_000).astype(np.int32)
    searched = np.searchsorted(table, queries, side="right") - (queries >> 22) * counts
    short = shortcut[queries >> 10]
    assert (short < 0).mean() < 0.12
    assert np.array_equal(short[short >= 0], searched[short >= 0])


def test_the_table_is_the_cumulated_distribution() -> None:
    table, _ = poisson_table(12.0)
    counts = len(table) // 256
    of_level = (table.reshape(256, counts) - (np.arange(256) << 22)[:, None])[100]
    expected = stats.poisson.cdf(np.arange(counts), 12 * 100 / 255)
    assert np.abs(of_level / 2**22 - expected).max() < 3e-7
    assert (np.diff(table) >= 0).all()
