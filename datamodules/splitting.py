"""Fixed parts of a dataset that are the same on every machine and with every numpy."""

import hashlib

import numpy as np

from core.errors import DataError


def _draw(seed: int, position: int) -> bytes:
    """Random-looking sort key; a digest, because numpy's streams may change with its versions."""
    return hashlib.sha256(f"{seed}/{position}".encode()).digest()


def stratified(
    labels: np.ndarray, *, fractions: dict[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Split positions into named parts with the class balance of the whole.

    Args:
        labels: True classes, shape [N].
        fractions: Part name -> share of each class, rounded to whole samples; what is left over
            goes to the last part, whose own share is not used.
        seed: Which of the possible splits.

    Returns:
        Part name -> ascending positions, int64; together every position once.

    Raises:
        DataError: A part would be empty.

    Example:
        >>> parts = stratified(np.array([0, 0, 0, 0, 1, 1]), fractions={"a": 0.5, "b": 0.5}, seed=1)
        >>> len(parts["a"]), len(parts["b"])
        (3, 3)
    """
    *named, rest = fractions
    chosen: dict[str, list[int]] = {name: [] for name in fractions}
    for label in np.unique(labels):
        queue = sorted(np.flatnonzero(labels == label).tolist(), key=lambda at: _draw(seed, at))
        total = len(queue)
        for name in named:
            share = round(fractions[name] * total)
            chosen[name] += queue[:share]
            queue = queue[share:]
        chosen[rest] += queue
    empty = [name for name, positions in chosen.items() if not positions]
    if empty:
        raise DataError(
            f"expected samples in every part, got none in {', '.join(empty)} "
            f"from {len(labels)} samples and fractions {fractions}"
        )
    return {name: np.array(sorted(positions), dtype=np.int64) for name, positions in chosen.items()}
