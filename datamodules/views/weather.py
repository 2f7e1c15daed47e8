"""Weather: lite corruptions that put something between the scene and the camera.

Frost is left out: it needs photographs of ice, which are somebody's.
"""

import math

import torch
from torch import Tensor

from datamodules.views.filtering import convolve, gaussian_blurred, line_kernels
from datamodules.views.seeding import Draws
from datamodules.views.view import Kind

OWN = "own constants, of the strength of CIFAR-10-C (small) and ImageNet-C (large)"
PUBLISHED = "the constants of CIFAR-10-C (small) and ImageNet-C (large), Hendrycks 2019"

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in brightness, ITU-R BT.601."""

MUD = (0.25, 0.16, 0.08)
"""Colour of what spatters, red, green and blue."""

RIM = 0.5
"""Width, in standard deviations of the field, over which a drop goes from clear to opaque."""


def brightness(images: Tensor, draws: Draws, *, added: float) -> Tensor:
    """Raise the value of hue, saturation and value by `added`, to 1 at most."""
    value = images.amax(dim=1, keepdim=True)
    raised = (value + added).clamp_max(1)
    return torch.where(value > 0, images * (raised / value), raised)


def fog(images: Tensor, draws: Draws, *, thickness: float, smoothness: float) -> Tensor:
    """Add clouds, and rescale so that the brightest pixel of a clear image keeps its value.

    Args:
        images: Shape [B, C, H, W].
        draws: Random numbers.
        thickness: Brightness of the densest cloud.
        smoothness: Exponent by which the amplitudes of the clouds fall with their frequency.
    """
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    clouds = power_law_field(draws, images, smoothness)
    return (images + thickness * clouds) * (brightest / (brightest + thickness))


def power_law_field(draws: Draws, images: Tensor, exponent: float) -> Tensor:
    """Random field in [0, 1], shape [B, 1, H, W], of amplitudes 1 / frequency ** exponent.

    The published fog subdivides squares ("diamond-square"); its spectrum is of this kind.
    """
    height, width = images.shape[-2:]
    white = draws.normal((1, height, width), "field")
    down = torch.fft.fftfreq(height, 1 / height, device=images.device)[:, None]
    right = torch.fft.rfftfreq(width, 1 / width, device=images.device)[None, :]
    frequency = torch.hypot(down, right)
    amplitude = frequency.clamp_min(1) ** -exponent * (frequency > 0)
    field = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(height, width))
    low, high = _ends(field)
    return (field - low) / (high - low).clamp_min(1e-6)


def _ends(field: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each image, shape [B, 1, 1, 1]."""
    return field.amin(dim=(1, 2, 3), keepdim=True), field.amax(dim=(1, 2, 3), keepdim=True)


def snow(
    images: Tensor, draws: Draws, *, share: float, length_px: float, whiteness: float
) -> Tensor:
    """Flakes that fall in streaks, over a scene that is whiter than before.

    Args:
        images: Shape [B, C, H, W].
        draws: Random numbers.
        share: Of the pixels in which a flake starts.
        length_px: Of a streak.
        whiteness: How much of the scene is replaced by a light grey version of it, 0 to 1.
    """
    height, width = images.shape[-2:]
    seeds = (draws.uniform((1, height, width), "flakes") < share).to(images.dtype)
    falls = (draws.uniform((1,), "angle")[:, 0] + 1) * (math.pi / 4)  # 45 to 90 degrees
    kernels = line_kernels(length_px, falls)
    flakes = convolve(seeds, kernels / kernels.amax(dim=(1, 2), keepdim=True)).clamp(0, 1)
    white = torch.maximum(images, grey(images) * 1.5 + 0.5).clamp_max(1)
    return torch.lerp(torch.lerp(images, white, whiteness), torch.ones_like(images), flakes)


def grey(images: Tensor) -> Tensor:
    """Brightness, shape [B, 1, H, W]; of other than three channels their mean."""
    if images.shape[1] != len(LUMA):
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)
    return (images * weights[:, None, None]).sum(dim=1, keepdim=True)


def spatter(images: Tensor, draws: Draws, *, share: float, size_px: float) -> Tensor:
    """Drops of mud on the lens.

    The published one is water at severity 1 to 3 and mud above; here it is mud always, so that
    severities differ in one thing only.

    Args:
        images: Shape [B, C, H, W].
        draws: Random numbers.
        share: Of the pixels that are at least half covered, about.
        size_px: Standard deviation of the blur that makes drops of white noise.
    """
    height, width = images.shape[-2:]
    field = gaussian_blurred(draws.normal((1, height, width), "drops"), size_px)
    field = field - field.mean(dim=(1, 2, 3), keepdim=True)
    spread = field.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    threshold = math.sqrt(2) * torch.erfinv(torch.tensor(1 - 2 * share, dtype=torch.float64)).item()
    cover = ((field / spread - threshold) / RIM + 0.5).clamp(0, 1)
    colour = torch.tensor(MUD, dtype=images.dtype, device=images.device)[None, :, None, None]
    if images.shape[1] != len(MUD):
        colour = grey(colour)
    return torch.lerp(images, colour.expand_as(images), cover)


KINDS = (
    Kind(
        name="brightness",
        apply=brightness,
        small={"added": (0.05, 0.10, 0.15, 0.20, 0.30)},
        large={"added": (0.1, 0.2, 0.3, 0.4, 0.5)},
        source=PUBLISHED,
        seeded=False,
    ),
    Kind(
        name="fog",
        apply=fog,
        small={
            "thickness": (0.2, 0.5, 0.75, 1.0, 1.5),
            "smoothness": (1.7, 1.7, 1.7, 1.7, 1.7),
        },
        large={
            "thickness": (0.8, 1.2, 1.7, 2.4, 3.5),
            "smoothness": (1.7, 1.7, 1.7, 1.7, 1.7),
        },
        source=OWN,
    ),
    Kind(
        name="snow",
        apply=snow,
        small={
            "share": (0.005, 0.010, 0.015, 0.020, 0.030),
            "length_px": (2.0, 2.0, 3.0, 3.0, 4.0),
            "whiteness": (0.05, 0.10, 0.12, 0.16, 0.20),
        },
        large={
            "share": (0.004, 0.006, 0.008, 0.010, 0.014),
            "length_px": (12.0, 14.0, 16.0, 18.0, 20.0),
            "whiteness": (0.2, 0.3, 0.35, 0.4, 0.45),
        },
        source=OWN,
    ),
    Kind(
        name="spatter",
        apply=spatter,
        small={
            "share": (0.02, 0.04, 0.06, 0.09, 0.14),
            "size_px": (0.7, 0.8, 0.9, 1.0, 1.1),
        },
        large={
            "share": (0.05, 0.10, 0.16, 0.24, 0.34),
            "size_px": (3.0, 3.5, 4.0, 4.5, 5.0),
        },
        source=OWN,
    ),
)
