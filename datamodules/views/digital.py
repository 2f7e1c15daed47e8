"""Digital: lite corruptions of processing and storage."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.decoding import decoder_version
from datamodules.views.filtering import block_means, gaussian_blurred, pixel_grid, sampled
from datamodules.views.seeding import Draws
from datamodules.views.view import Kind

OWN = "own constants, of the strength of CIFAR-10-C (small) and ImageNet-C (large)"
PUBLISHED = "the constants of CIFAR-10-C (small) and ImageNet-C (large), Hendrycks 2019"

WHITE = 255


def contrast(images: Tensor, draws: Draws, *, kept: float) -> Tensor:
    """Keep a part of each pixel's distance to the mean of its channel in the image."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(mean.expand_as(images), images, kept)


def saturate(images: Tensor, draws: Draws, *, factor: float, added: float) -> Tensor:
    """Multiply the saturation of hue, saturation and value, then add to it; 0 to 1 at most.

    A grey pixel has no hue that could be saturated: it stays, and so does a grey image.
    """
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    saturation = chroma / value.clamp_min(1e-12)
    wanted = (saturation * factor + added).clamp(0, 1)
    return value - (value - images) * (wanted / saturation.clamp_min(1e-12))


def pixelate(images: Tensor, draws: Draws, *, resolution: float) -> Tensor:
    """Replace every pixel by the mean of its block; blocks a side = `resolution` times pixels."""
    height, width = images.shape[-2:]
    size = (max(1, int(height * resolution)), max(1, int(width * resolution)))
    return block_means(block_means(images, size[0], 2), size[1], 3)


def jpeg_compression(images: Tensor, draws: Draws, *, quality: int) -> Tensor:
    """Write as JPEG and read again, with Pillow on the CPU, one image after the other."""
    pixels = (images * WHITE).round().clamp(0, WHITE).to(torch.uint8).cpu().numpy()
    return (
        torch.from_numpy(np.stack([_stored(one, quality) for one in pixels])).to(
            images.device, images.dtype
        )
        / WHITE
    )


def _stored(planes: np.ndarray, quality: int) -> np.ndarray:
    """Uint8 [C, H, W] through a JPEG file in memory; three channels as colour, others as grey."""
    if len(planes) != 3:
        return np.stack([_through_file(plane, quality) for plane in planes])
    return _through_file(np.ascontiguousarray(planes.transpose(1, 2, 0)), quality).transpose(
        2, 0, 1
    )


def _through_file(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image)


def elastic_transform(
    images: Tensor, draws: Draws, *, amplitude_px: float, sigma_px: float
) -> Tensor:
    """Stretch locally: every pixel is read from a place that a smooth random field moves.

    Args:
        images: Shape [B, C, H, W].
        draws: Random numbers.
        amplitude_px: Root mean square of the move down, and of the move to the right.
        sigma_px: Standard deviation of the Gaussian that smooths the field.
    """
    height, width = images.shape[-2:]
    # float64: a coordinate's last bit in float32 would be worth 1e-5 of a grey value
    white = draws.normal((2, height, width), "field").to(torch.float64)
    field = gaussian_blurred(white, sigma_px)
    field = field / field.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    down, right = (field * amplitude_px).unbind(1)
    rows, columns = pixel_grid(images)
    return sampled(images, rows + down, columns + right)


KINDS = (
    Kind(
        name="contrast",
        apply=contrast,
        small={"kept": (0.75, 0.50, 0.40, 0.30, 0.15)},
        large={"kept": (0.40, 0.30, 0.20, 0.10, 0.05)},
        source=PUBLISHED,
        seeded=False,
    ),
    Kind(
        name="saturate",
        apply=saturate,
        small={"factor": (0.3, 0.1, 1.5, 2.0, 2.5), "added": (0.0, 0.0, 0.0, 0.1, 0.2)},
        large={"factor": (0.3, 0.1, 2.0, 5.0, 20.0), "added": (0.0, 0.0, 0.0, 0.1, 0.2)},
        source=PUBLISHED,
        seeded=False,
    ),
    Kind(
        name="pixelate",
        apply=pixelate,
        small={"resolution": (0.95, 0.87, 0.72, 0.62, 0.49)},
        large={"resolution": (0.6, 0.5, 0.4, 0.3, 0.25)},
        source=OWN,
        seeded=False,
    ),
    Kind(
        name="jpeg_compression",
        apply=jpeg_compression,
        small={"quality": (80, 65, 58, 50, 40)},
        large={"quality": (25, 18, 15, 10, 7)},
        source=PUBLISHED,
        seeded=False,
        outside=decoder_version,
    ),
    Kind(
        name="elastic_transform",
        apply=elastic_transform,
        small={
            "amplitude_px": (0.4, 0.6, 0.8, 1.1, 1.5),
            "sigma_px": (2.5, 2.5, 2.5, 2.5, 2.5),
        },
        large={
            "amplitude_px": (2.0, 3.5, 5.0, 7.0, 10.0),
            "sigma_px": (9.0, 9.0, 9.0, 9.0, 9.0),
        },
        source=OWN,
    ),
)
