"""The dominant eigenvalue of a symmetric operator that is known by what it does to a vector."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Dominant:
    """An eigenvalue and how far the search came."""

    value: float
    residual: float  # ||Hv - value v||, v of length 1: an eigenvalue is at most this far away
    iterations: int


def dominant_eigenvalue(
    operator: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> Dominant:
    """Eigenvalue of largest magnitude, with its sign.

    Args:
        operator: Vector [P] -> vector [P]; linear and symmetric.
        start: Shape [P], not zero; random, so that it is orthogonal to no eigenvector.
        iterations: At most this many, at least 1.
        tolerance: Stop when the residual is below this share of the eigenvalue. The value itself
            is then closer by about the square. A residual above it says that the search ended.

    Example:
        >>> found = dominant_eigenvalue(
        ...     lambda v: torch.tensor([1.0, -4.0]) * v, torch.ones(2), tolerance=1e-6
        ... )
        >>> round(found.value, 4)
        -4.0

    Reference:
        Golub & Van Loan, Matrix computations (2013), section 8.2.1.
    """
    if iterations < 1:
        raise ValueError(f"iterations is at least 1, got {iterations}")
    vector = start / start.norm()
    for done in range(1, iterations + 1):
        image = operator(vector)
        value = torch.dot(vector, image).item()
        residual = (image - value * vector).norm().item()
        if not math.isfinite(residual):
            raise ValueError(f"expected finite products with the operator, got one of {value}")
        found = Dominant(value=value, residual=residual, iterations=done)
        if residual <= tolerance * abs(value):
            break
        vector = image / image.norm()
    return found
