"""What several views are made of: convolution and sampling between pixels, edges repeated.

No convolution layer and no matrix product is used: on a GPU those may round to TF32, and an image
would depend on the device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every channel; pixels beyond the edge repeat it.

    Args:
        images: Shape [B, C, H, W].
        kernels: Shape [1, k, k] or one a sample, [B, k, k]; k odd.

    Returns:
        Shape of `images`.

    Example:
        >>> kernel = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]])
        >>> convolve(torch.tensor([[[[2.0, 4.0, 8.0]]]]), kernel).round(decimals=4)
        tensor([[[[2., 3., 6.]]]])
    """
    radius = kernels.shape[-1] // 2
    padded = F.pad(images, [radius] * 4, mode="replicate")
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels[:, None].to(images.dtype), s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., 2 * radius :, 2 * radius :]


def offsets(radius: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of a kernel, counted from its centre; each [2 radius + 1] squared."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return rows, columns


def normalised(kernels: Tensor) -> Tensor:
    """Kernels [..., k, k] that sum to one."""
    return kernels / kernels.sum(dim=(-2, -1), keepdim=True)


def gaussian_blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of standard deviation `sigma` pixels, cut off at three of them."""
    rows, columns = offsets(max(1, math.ceil(3 * sigma)), images.device)
    kernel = (-(rows**2 + columns**2) / (2 * sigma**2)).exp()
    return convolve(images, normalised(kernel)[None])


def line_kernels(length: float, angles: Tensor) -> Tensor:
    """Blur along a line through the centre, one pixel wide.

    Args:
        length: In pixels; 0 leaves an image as it is.
        angles: In radians, shape [B]; 0 is horizontal.

    Returns:
        Shape [B, k, k], each of sum one.
    """
    rows, columns = offsets(math.ceil(length / 2 + 1), angles.device)
    cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
    along = (columns * cosine + rows * sine).abs() - length / 2
    across = rows * cosine - columns * sine
    distance = torch.hypot(along.clamp_min(0), across)
    return normalised((1 - distance).clamp_min(0))


def pixel_grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, float64 [H, 1] and [1, W]: to compute coordinates with."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64, device=images.device)[:, None]
    columns = torch.arange(width, dtype=torch.float64, device=images.device)[None, :]
    return rows, columns


def sampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read images between their pixels, bilinearly; beyond the edge it is repeated.

    Args:
        images: Shape [B, C, H, W].
        rows: Float64 [H, W] or one map a sample, [B, H, W]: where each new pixel is read.
        columns: As `rows`.

    Returns:
        Shape of `images`.
    """
    height, width = images.shape[-2:]
    rows, columns = torch.broadcast_tensors(rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    top, left = rows.floor(), columns.floor()
    down = (rows - top).to(images.dtype).unsqueeze(-3)
    right = (columns - left).to(images.dtype).unsqueeze(-3)
    top, left = top.to(torch.int64), left.to(torch.int64)
    bottom, end = (top + 1).clamp_max(height - 1), (left + 1).clamp_max(width - 1)
    upper = torch.lerp(picked(images, top, left), picked(images, top, end), right)
    lower = torch.lerp(picked(images, bottom, left), picked(images, bottom, end), right)
    return torch.lerp(upper, lower, down)


def picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at whole coordinates, int64 [H, W] for all samples or [B, H, W]."""
    places = rows * images.shape[-1] + columns
    flat = images.flatten(2)
    if places.ndim == 2:
        return flat.index_select(2, places.flatten()).view_as(images)
    index = places.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return flat.gather(2, index).view_as(images)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Enlarge about the centre by a factor, at the same size; below 1 the edge is repeated."""
    for dim, size in ((2, images.shape[2]), (3, images.shape[3])):
        middle = (size - 1) / 2
        steps = torch.arange(size, dtype=torch.float64, device=images.device) - middle
        places = (middle + steps / factor).clamp(0, size - 1)
        first = places.floor()
        share = (places - first).to(images.dtype)
        low = first.to(torch.int64)
        high = (low + 1).clamp_max(size - 1)
        share = share[:, None] if dim == 2 else share
        images = torch.lerp(images.index_select(dim, low), images.index_select(dim, high), share)
    return images


def block_means(images: Tensor, cells: int, dim: int) -> Tensor:
    """Mean of each cell at every pixel of it, where one dimension is cut into equal cells.

    Args:
        images: Shape [B, C, H, W].
        cells: How many; pixel i of n belongs to cell floor(i cells / n).
        dim: 2 cuts rows, 3 cuts columns.

    Example:
        >>> block_means(torch.tensor([[[[0.0, 1.0, 2.0, 6.0]]]]), 2, 3)
        tensor([[[[0.5000, 0.5000, 4.0000, 4.0000]]]])
    """
    size = images.shape[dim]
    cell = torch.arange(size, device=images.device) * cells // size
    first = -(-cell * size // cells)  # rounded up
    end = -(-(cell + 1) * size // cells)
    shape = (-1, 1) if dim == 2 else (-1,)
    total = torch.zeros_like(images)
    for step in range(-(-size // cells)):
        inside = (first + step < end).to(images.dtype).view(shape)
        total += images.index_select(dim, (first + step).clamp_max(size - 1)) * inside
    return total / (end - first).to(images.dtype).view(shape)
