"""How much a layer can stretch its input: the largest singular value of what it does.

A product over layers bounds the Lipschitz constant of a chain of layers only; it bounds nothing
where branches are added.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from measurements.functional.power_iteration import Dominant, dominant_eigenvalue


def linear_spectral_norm(weight: Tensor) -> float:
    """Largest singular value of a matrix, exactly.

    Args:
        weight: Shape [D1, D2], effective weights: without a mask or rescaling still attached.

    Returns:
        At least 0; lower is smoother.

    Example:
        >>> linear_spectral_norm(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
        2.0
    """
    if weight.ndim != 2 or weight.numel() == 0:
        raise ValueError(f"expected weights [D1, D2], got {list(weight.shape)}")
    return torch.linalg.matrix_norm(weight.detach().double(), ord=2).item()


def conv_spectral_norm(
    conv: nn.Conv1d | nn.Conv2d | nn.Conv3d,
    input_size: Sequence[int],
    *,
    generator: torch.Generator,
    iterations: int = 1000,
    tolerance: float = 1e-3,
) -> Dominant:
    """Largest singular value of a convolution as a map of whole images, without its bias.

    Not that of the reshaped kernel: padding, stride, dilation, groups and the size of the input
    are those of the layer, because the operator itself is iterated, forwards and transposed.

    Args:
        conv: Left as it is; effective weights, no mask still attached.
        input_size: Of one image or feature map, without channels: (H, W).
        generator: Gives the first image.
        iterations: At most this many applications.
        tolerance: On the residual of the squared value; the value is closer by about the square.

    Returns:
        The singular value; its residual is that of the square. Lower is smoother.

    Example:
        >>> conv = nn.Conv2d(1, 1, kernel_size=1)
        >>> _ = nn.init.constant_(conv.weight, -3.0)
        >>> round(conv_spectral_norm(conv, (4, 4), generator=torch.Generator()).value, 6)
        3.0

    Reference:
        Sedghi et al., The singular values of convolutional layers (2019), gives them for circular
        padding; power iteration on the operator as in Farnia et al., Generalizable adversarial
        training via spectral normalization (2019).
    """
    if not isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise TypeError(f"expected a convolution, got {type(conv).__name__}")
    if len(input_size) != len(conv.kernel_size):
        raise ValueError(
            f"expected input_size of {len(conv.kernel_size)} numbers, got {list(input_size)}"
        )
    shape = (1, conv.in_channels, *input_size)
    with torch.inference_mode(mode=False), torch.enable_grad():
        layer = _linear_part(conv)

        def squared(vector: Tensor) -> Tensor:
            image = vector.detach().view(shape).requires_grad_()
            output = layer(image)
            (gradient,) = torch.autograd.grad(output, image, output.detach())
            return gradient.flatten()

        first = torch.randn(shape, generator=generator, dtype=torch.float64).flatten()
        found = dominant_eigenvalue(
            squared, first.to(conv.weight.device), iterations=iterations, tolerance=tolerance
        )
    return replace(found, value=max(0.0, found.value) ** 0.5)


def _linear_part(conv: nn.Module) -> nn.Module:
    """A copy in float64 that adds no bias."""
    layer = copy.deepcopy(conv).double().requires_grad_(requires_grad=False)
    layer.register_parameter("bias", None)
    return layer
