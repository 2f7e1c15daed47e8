"""What identifies a pass: its key is the digest of everything that can change a row."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.digest import digest
from core.names import CLEAN, Split

RECORDER_VERSION = 1
"""Raised when the meaning of a recorded column changes: old records are then made anew."""

SUBSET_SEED = 20240229
"""Chooses which samples `limit_samples` keeps; a part of the definition of the subset."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A model looking at one view of one split."""

    model: str  # fingerprint
    datamodule: str
    split: Split
    view: dict[str, Any] = field(default_factory=lambda: {"name": CLEAN})
    manifest: str
    limit_samples: int | None
    label_space: dict[str, Any] | None
    preprocessing: dict[str, Any]
    numerics: dict[str, Any]
    labelled: bool = True  # False: the labels are of other classes than the model's, and left out

    @property
    def parts(self) -> dict[str, Any]:
        """Everything the key is the digest of; the datamodule's name is not, its content is."""
        parts = {
            "model": self.model,
            "numerics": self.numerics,
            "dataset": self.manifest,
            "split": self.split,
            "subset": self.limit_samples,
            "label_space": self.label_space,
            "view": self.view,
            "preprocessing": self.preprocessing,
            "recorder": RECORDER_VERSION,
        }
        return parts if self.labelled else {**parts, "labelled": False}

    @property
    def key(self) -> str:
        """Content address of the records of this pass."""
        return digest(self.parts)


def chosen_ids(total: int, limit: int | None) -> np.ndarray:
    """Sample ids a pass looks at: all, or a fixed random subset, ascending.

    A random subset, because the first samples of a class-per-folder tree are all of one class.

    Example:
        >>> chosen_ids(4, None).tolist(), len(chosen_ids(1000, 10))
        ([0, 1, 2, 3], 10)
    """
    if limit is None or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(SUBSET_SEED).permutation(total)[:limit])
