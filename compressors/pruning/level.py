"""Single weights, the smallest first (Han et al. 2015)."""

from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from core.errors import ConfigError
from models.edits import Edits

Scope = Literal["layer", "global"]


def smallest(magnitudes: Tensor, *, count: int) -> Tensor:
    """Mask of the `count` smallest entries; ties go to the earlier entry.

    Args:
        magnitudes: Any shape; finite.
        count: How many, at most all.

    Returns:
        Bool, same shape; exactly `count` entries are True.

    Example:
        >>> smallest(torch.tensor([3.0, 1.0, 2.0, 1.0]), count=2).tolist()
        [False, True, False, True]
    """
    order = magnitudes.flatten().argsort(stable=True)
    mask = torch.zeros(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    return mask.index_fill(0, order[:count], True).view_as(magnitudes)


class Level(Compressor):
    """Zeroes the weights of least magnitude; exactly floor(sparsity n) of them.

    The zeros stay in place: dense files and latency are as before, only a sparse or compressed
    file is smaller. Biases are left alone.

    Args:
        scope: `layer` ranks within each layer, `global` among all layers of equal sparsity.
        **selection: Those of Compressor.
    """

    treatable: ClassVar = (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
        "Bilinear",
        "PReLU",
        "Embedding",
        "EmbeddingBag",
    )
    default_types: ClassVar = treatable

    def __init__(self, *, scope: Scope = "layer", **selection: Any) -> None:
        super().__init__(**selection)
        if scope not in get_args(Scope):
            raise ConfigError(
                [f"compressor.scope is one of {', '.join(get_args(Scope))}, got {scope!r}"]
            )
        self.scope = scope

    def options(self) -> dict[str, Any]:
        """Where weights are ranked."""
        return {"scope": self.scope}

    def decide(self, task: Task) -> Decision:
        """Rank the weights of each pool and mask the smallest."""
        edits, notes = Edits(), []
        for sparsity, names in self._pools(task.selection.sparsity):
            weights = {f"{task.prefix}{n}.weight": _weight(task, n) for n in names}
            sizes = [w.numel() for w in weights.values()]
            count = count_removed(sum(sizes), sparsity)
            if count == 0:
                notes.append(_nothing(names, sum(sizes), sparsity))
                continue
            pool = torch.cat([w.abs().flatten() for w in weights.values()])
            masks = smallest(pool, count=count).split(sizes)
            shaped = zip(weights.items(), masks, strict=True)
            edits = edits.merge(Edits(masked={n: m.view_as(w).cpu() for (n, w), m in shaped}))
        if not edits.is_empty:
            notes.append("single weights are zero but stored: dense size and latency stay the same")
        return Decision(edits=edits, notes=notes)

    def _pools(self, sparsity: dict[str, float]) -> list[tuple[float, list[str]]]:
        """Layers that are ranked together, with their common sparsity."""
        if self.scope == "layer":
            return [(value, [name]) for name, value in sparsity.items()]
        values = sorted(set(sparsity.values()))
        return [(value, [n for n, own in sparsity.items() if own == value]) for value in values]


def _weight(task: Task, name: str) -> Tensor:
    return cast(Tensor, task.layer(name).weight).detach()


def _nothing(names: list[str], count: int, sparsity: float) -> str:
    return f"{', '.join(names)}: {sparsity:g} of {count} weights rounds to nothing"
