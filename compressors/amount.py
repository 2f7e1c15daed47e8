"""How many of n things a sparsity removes."""

import math

ROUNDING = 1e-9
"""Makes 0.29 of 100 the 29 it means; in binary, 0.29 * 100 is 28.999999999999996."""


def count_removed(count: int, sparsity: float) -> int:
    """Number of things that go, floor(sparsity x count); at least one of them stays.

    Args:
        count: How many there are.
        sparsity: Fraction to remove, in [0, 1).

    Example:
        >>> count_removed(100, 0.29), count_removed(16, 0.3), count_removed(1, 0.99)
        (29, 4, 0)
    """
    return min(math.floor(count * sparsity + ROUNDING), count - 1)
