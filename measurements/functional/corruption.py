"""Corrupted images: the error they cause, alone, against AlexNet and against the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns
from measurements.functional.intervals import (
    Interval,
    bootstrap_means,
    mean_difference_interval,
    percentile_interval,
)

ALEXNET_ERRORS: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Mean error over the five severities of AlexNet on the 15 corruptions of ImageNet-C."""

ALEXNET_CLEAN_ERROR = 0.43478


@dataclass(frozen=True, kw_only=True)
class GapRatio:
    """What corruption costs the model against what it costs the baseline."""

    ratio: float | None  # None where the interval of what the baseline loses contains 0
    interval: Interval | None
    difference: float  # model's extra error minus baseline's extra error
    difference_interval: Interval


def mean_corruption_error(errors: Mapping[str, Sequence[float]]) -> float:
    """Error averaged over severities and then over corruptions, without constants.

    Args:
        errors: Corruption -> error at each severity, fractions.

    Returns:
        Fraction in [0, 1]; lower is better.

    Example:
        >>> mean_corruption_error({"fog": [0.0, 0.5], "snow": [0.75, 0.75]})
        0.5

    Reference:
        Hendrycks & Dietterich, Benchmarking neural network robustness (2019), unnormalised.
    """
    means = _means(errors)
    return sum(means.values()) / len(means)


def alexnet_mce(errors: Mapping[str, Sequence[float]]) -> float:
    """Mean over the 15 corruptions of ImageNet-C of the error as a share of AlexNet's.

    Args:
        errors: All 15 corruptions -> error at each of the five severities, fractions.

    Returns:
        Per cent; 100 for AlexNet itself, 76.7 for the ResNet-50 of the paper; lower is better.

    Example:
        >>> round(alexnet_mce({name: [error / 2] for name, error in ALEXNET_ERRORS.items()}), 6)
        50.0

    Reference:
        Hendrycks & Dietterich, Benchmarking neural network robustness to common corruptions and
        perturbations (2019), section 4: mCE.
    """
    means = _of_imagenet_c(errors)
    ratios = [means[name] / alexnet for name, alexnet in ALEXNET_ERRORS.items()]
    return 100 * sum(ratios) / len(ratios)


def alexnet_relative_mce(errors: Mapping[str, Sequence[float]], *, clean_error: float) -> float:
    """Mean over the 15 corruptions of the error added, as a share of what AlexNet adds.

    Args:
        errors: All 15 corruptions -> error at each of the five severities, fractions.
        clean_error: Error of the model on clean images.

    Returns:
        Per cent; 100 for AlexNet itself; lower is better; negative if corruption helps.

    Example:
        >>> errors = {name: [error] for name, error in ALEXNET_ERRORS.items()}
        >>> round(alexnet_relative_mce(errors, clean_error=ALEXNET_CLEAN_ERROR), 6)
        100.0

    Reference:
        Hendrycks & Dietterich (2019), section 4: relative mCE.
    """
    means = _of_imagenet_c(errors)
    ratios = [
        (means[name] - clean_error) / (alexnet - ALEXNET_CLEAN_ERROR)
        for name, alexnet in ALEXNET_ERRORS.items()
    ]
    return 100 * sum(ratios) / len(ratios)


def corruption_gap(
    clean: Tensor, corrupted: Tensor, *, baseline: tuple[Tensor, Tensor]
) -> GapRatio:
    """Error that corruption adds to the model, over the error it adds to the baseline.

    A ratio of sums over samples and corruptions, so corruptions that cost nothing do no harm.

    Args:
        clean: Whether the clean image is right, bool, shape [N].
        corrupted: Whether each corrupted view of it is right, bool, shape [N, V].
        baseline: The same two of the baseline, on the same samples.

    Returns:
        Ratio, 1 for equal models, lower is better, with a paired bootstrap interval, None where the
        interval of what is added to the baseline contains 0; and always the difference.

    Example:
        >>> clean, hurt = torch.ones(8).bool(), (torch.arange(8) >= 4)[:, None]
        >>> hurt_more = (torch.arange(8) >= 6)[:, None]
        >>> found = corruption_gap(clean, hurt_more, baseline=(clean, hurt))
        >>> found.ratio, found.difference
        (1.5, 0.25)

    Reference:
        Hendrycks & Dietterich (2019), relative mCE, with the baseline in AlexNet's place.
    """
    now, before = _added_error(clean, corrupted), _added_error(*baseline)
    require_columns(model=now, baseline=before)
    low, high = mean_difference_interval(before)
    difference = now - before
    found = GapRatio(
        ratio=None,
        interval=None,
        difference=difference.mean().item(),
        difference_interval=mean_difference_interval(difference),
    )
    if low <= 0 <= high:
        return found
    draws = [bootstrap_means(x, generator=_seeded()) for x in (now, before)]
    ratio = (now.mean() / before.mean()).item()
    ratios = draws[0] / draws[1]
    return replace(found, ratio=ratio, interval=percentile_interval(ratios[ratios.isfinite()]))


def _added_error(clean: Tensor, corrupted: Tensor) -> Tensor:
    if corrupted.ndim != 2 or clean.shape != corrupted.shape[:1] or corrupted.shape[1] == 0:
        raise ValueError(
            "expected hits [N] of clean and [N, V] of corrupted images, "
            f"got {list(clean.shape)} and {list(corrupted.shape)}"
        )
    return clean.double() - corrupted.double().mean(dim=1)


def _seeded() -> torch.Generator:
    """The same resamples for both models: that is what pairs them."""
    return torch.Generator().manual_seed(0)


def _means(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    empty = [name for name, values in errors.items() if len(values) == 0]
    if not errors or empty:
        raise ValueError(f"expected errors of at least one severity each, got none of {empty}")
    return {name: sum(values) / len(values) for name, values in errors.items()}


def _of_imagenet_c(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    missing = sorted(set(ALEXNET_ERRORS) - set(errors))
    if missing:
        raise NotApplicable(
            f"mCE needs all 15 corruptions of ImageNet-C, without {', '.join(missing)}"
        )
    return _means({name: errors[name] for name in ALEXNET_ERRORS})
