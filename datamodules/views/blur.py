"""Blur: lite corruptions that mix neighbouring pixels."""

import math

import torch
from torch import Tensor

from datamodules.views.filtering import (
    convolve,
    gaussian_blurred,
    line_kernels,
    normalised,
    offsets,
    picked,
    pixel_grid,
    zoomed,
)
from datamodules.views.seeding import Draws
from datamodules.views.view import Kind

OWN = "own constants, of the strength of CIFAR-10-C (small) and ImageNet-C (large)"
PUBLISHED = "the constants of CIFAR-10-C (small) and ImageNet-C (large), Hendrycks 2019"

RIM_PX = 1.5
"""Width over which a disc fades out, so that a radius of half a pixel blurs a little."""

ZOOM_STEP_PX = 2.0
"""How far a corner may move between two of the zooms that are averaged."""


def gaussian_blur(images: Tensor, draws: Draws, *, sigma_px: float) -> Tensor:
    """A Gaussian of standard deviation `sigma_px`."""
    return gaussian_blurred(images, sigma_px)


def defocus_blur(images: Tensor, draws: Draws, *, radius_px: float) -> Tensor:
    """A disc of radius `radius_px` with a soft rim, as seen out of a lens' focus."""
    rows, columns = offsets(math.ceil(radius_px + RIM_PX / 2), images.device)
    disc = ((radius_px - torch.hypot(rows, columns)) / RIM_PX + 0.5).clamp(0, 1)
    return convolve(images, normalised(disc)[None])


def motion_blur(images: Tensor, draws: Draws, *, length_px: float) -> Tensor:
    """A line of length `length_px` in a direction within 45 degrees of the horizontal.

    The published one fades along the line; this one is even.
    """
    angles = (draws.uniform((1,))[:, 0] - 0.5) * (math.pi / 2)
    return convolve(images, line_kernels(length_px, angles))


def zoom_blur(images: Tensor, draws: Draws, *, zoom: float) -> Tensor:
    """Mean of the image and enlargements of it up to the factor `zoom`, as many as are needed."""
    reach = (zoom - 1) * max(images.shape[-2:]) / 2
    steps = math.ceil(reach / ZOOM_STEP_PX) + 1
    total = images.clone()
    for step in range(1, steps + 1):
        total += zoomed(images, 1 + (zoom - 1) * step / steps)
    return total / (steps + 1)


def glass_blur(
    images: Tensor, draws: Draws, *, sigma_px: float, share: float, reach_px: float
) -> Tensor:
    """A share of the pixels read from up to `reach_px` away, between two Gaussian blurs.

    The published one exchanges pixels one after the other; here each looks somewhere else at once,
    so a pixel may be seen twice.
    """
    height, width = images.shape[-2:]
    shifts = (draws.uniform((2, height, width)) - 0.5).mul_(2 * reach_px).round_()
    shifts *= draws.uniform((1, height, width), "moved") < share
    moved_rows, moved_columns = shifts.to(torch.int64).unbind(1)
    rows, columns = (grid.to(torch.int64) for grid in pixel_grid(images))
    scattered = picked(
        gaussian_blurred(images, sigma_px),
        (rows + moved_rows).clamp_(0, height - 1),
        (columns + moved_columns).clamp_(0, width - 1),
    )
    return gaussian_blurred(scattered, sigma_px)


KINDS = (
    Kind(
        name="gaussian_blur",
        apply=gaussian_blur,
        small={"sigma_px": (0.4, 0.6, 0.7, 0.8, 1.0)},
        large={"sigma_px": (1.0, 2.0, 3.0, 4.0, 6.0)},
        source=PUBLISHED,
        seeded=False,
    ),
    Kind(
        name="defocus_blur",
        apply=defocus_blur,
        small={"radius_px": (0.45, 0.55, 0.7, 1.0, 1.3)},
        large={"radius_px": (3.0, 4.0, 6.0, 8.0, 10.0)},
        source=OWN,
        seeded=False,
    ),
    Kind(
        name="motion_blur",
        apply=motion_blur,
        small={"length_px": (1.0, 1.7, 2.4, 3.2, 4.0)},
        large={"length_px": (8.0, 12.0, 17.0, 23.0, 30.0)},
        source=OWN,
    ),
    Kind(
        name="zoom_blur",
        apply=zoom_blur,
        small={"zoom": (1.06, 1.11, 1.16, 1.21, 1.26)},
        large={"zoom": (1.10, 1.15, 1.20, 1.25, 1.30)},
        source=OWN,
        seeded=False,
    ),
    Kind(
        name="glass_blur",
        apply=glass_blur,
        small={
            "sigma_px": (0.3, 0.3, 0.3, 0.3, 0.3),
            "share": (0.08, 0.16, 0.24, 0.36, 0.50),
            "reach_px": (1.2, 1.2, 1.2, 1.2, 1.2),
        },
        large={
            "sigma_px": (0.7, 0.8, 0.9, 1.0, 1.2),
            "share": (1.0, 1.0, 1.0, 1.0, 1.0),
            "reach_px": (2.0, 2.5, 3.0, 4.5, 6.0),
        },
        source=OWN,
    ),
)
