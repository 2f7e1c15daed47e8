"""Corruption errors: the published constants, and the ratio to the baseline by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.corruption import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERRORS,
    alexnet_mce,
    alexnet_relative_mce,
    corruption_gap,
    mean_corruption_error,
)

RESNET50 = {  # Hendrycks & Dietterich (2019), table 1: CE of each corruption, per cent of AlexNet
    "gaussian_noise": 80, "shot_noise": 82, "impulse_noise": 83, "defocus_blur": 75,
    "glass_blur": 89, "motion_blur": 78, "zoom_blur": 80, "snow": 78, "frost": 75, "fog": 66,
    "brightness": 57, "contrast": 71, "elastic_transform": 85, "pixelate": 77,
    "jpeg_compression": 77,
}  # fmt: skip


def spread(mean: float) -> list[float]:
    """Five severities with this mean."""
    return [mean - 0.04, mean - 0.02, mean, mean + 0.02, mean + 0.04]


ALEXNET = {name: spread(error) for name, error in ALEXNET_ERRORS.items()}


def test_there_are_fifteen_constants_of_the_published_mean() -> None:
    assert len(ALEXNET_ERRORS) == 15
    assert mean_corruption_error(ALEXNET) == pytest.approx(0.788993, abs=5e-7)


def test_alexnet_has_a_hundred() -> None:
    assert alexnet_mce(ALEXNET) == pytest.approx(100, abs=1e-9)
    relative = alexnet_relative_mce(ALEXNET, clean_error=ALEXNET_CLEAN_ERROR)
    assert relative == pytest.approx(100, abs=1e-9)


def test_resnet50_has_the_published_mce() -> None:
    errors = {name: [ALEXNET_ERRORS[name] * ce / 100] for name, ce in RESNET50.items()}
    assert alexnet_mce(errors) == pytest.approx(76.7, abs=0.5)  # the table rounds each to 1 %


def test_a_model_without_errors_has_zero() -> None:
    assert alexnet_mce({name: [0.0] * 5 for name in ALEXNET}) == 0


def test_relative_mce_takes_the_clean_error_off_both() -> None:
    errors = {
        name: [0.25 + (error - ALEXNET_CLEAN_ERROR) / 2] for name, error in ALEXNET_ERRORS.items()
    }
    assert alexnet_relative_mce(errors, clean_error=0.25) == pytest.approx(50, abs=1e-9)


def test_mce_without_all_corruptions_is_not_given() -> None:
    with pytest.raises(NotApplicable, match="without fog, snow"):
        alexnet_mce({name: [0.5] for name in ALEXNET if name not in ("fog", "snow")})


def test_corruptions_count_alike_whatever_their_severities() -> None:
    assert mean_corruption_error({"fog": [1.0], "snow": [0.0, 0.0, 0.3]}) == pytest.approx(0.55)


def test_a_corruption_without_errors_is_refused() -> None:
    with pytest.raises(ValueError, match="fog"):
        mean_corruption_error({"fog": []})


def drawn(seed: int, n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Hits on clean images and on three views that cost 40 points."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(n, generator=generator) < 0.9,
        torch.rand(n, 3, generator=generator) < 0.5,
    )


@given(st.integers(0, 2**31))
def test_a_model_against_itself_has_exactly_one(seed: int) -> None:
    found = corruption_gap(*drawn(seed), baseline=drawn(seed))
    assert (found.ratio, found.interval) == (1, (1, 1))
    assert (found.difference, *found.difference_interval) == (0, 0, 0)


def test_the_ratio_is_that_of_the_sums() -> None:
    clean = torch.ones(10).bool()
    before = torch.stack([torch.arange(10) >= 6, torch.arange(10) >= 2], dim=1)  # adds .6 and .2
    now = torch.stack([torch.arange(10) >= 6, torch.arange(10) >= 4], dim=1)  # adds .6 and .4
    found = corruption_gap(clean, now, baseline=(clean, before))
    assert found.ratio == pytest.approx(0.5 / 0.4)  # the mean of ratios would be 1.5
    assert found.difference == pytest.approx(0.1)
    assert found.interval is not None
    assert found.ratio is not None
    assert found.interval.low <= found.ratio <= found.interval.high


def test_what_is_added_is_counted_from_the_clean_error() -> None:
    clean = torch.arange(10) >= 2  # clean error .2
    views = (torch.arange(10) >= 6)[:, None]  # error .6
    right = torch.ones(10).bool()
    found = corruption_gap(clean, views, baseline=(right, views))
    assert found.ratio == pytest.approx(0.4 / 0.6)


def test_a_harmless_corruption_has_a_difference_and_no_ratio() -> None:
    clean, views = torch.ones(10).bool(), torch.ones(10, 2).bool()
    found = corruption_gap(clean, (torch.arange(10) >= 5)[:, None], baseline=(clean, views))
    assert (found.ratio, found.interval) == (None, None)
    assert found.difference == 0.5


def test_an_error_that_may_be_nothing_is_not_divided_by() -> None:
    clean, views = torch.arange(10) < 5, (torch.arange(10) >= 4)[:, None]  # 5 right, then 6 right
    found = corruption_gap(clean, views, baseline=(clean, views))
    assert (found.ratio, found.difference) == (None, 0)


def test_views_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[9\] and \[10, 1\]"):
        corruption_gap(torch.ones(9).bool(), torch.ones(10, 1).bool(), baseline=drawn(0, 9))
