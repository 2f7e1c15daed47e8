"""Some of every few consecutive inputs: the pattern that sparse tensor cores run."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from compressors.base import Compressor, Decision, Task
from core.errors import ConfigError
from models.edits import Edits


def but_largest(weight: Tensor, *, n: int, m: int) -> Tensor:
    """Mask of all but the n largest magnitudes of every m consecutive inputs.

    Args:
        weight: Of a convolution or linear layer, shape [outputs, inputs, ...]; m divides inputs.
        n: How many stay.
        m: Of how many.

    Returns:
        Bool, same shape; True = goes; of equals the earlier one.

    Example:
        >>> but_largest(torch.tensor([[3.0, -4.0, 1.0, 2.0, 0.0, 5.0, 5.0, 5.0]]), n=2, m=4)
        tensor([[False, False,  True,  True,  True,  True, False, False]])
    """
    blocks = weight.abs().movedim(1, -1).unflatten(-1, (-1, m))
    gone = blocks.argsort(dim=-1, stable=True)[..., : m - n]
    mask = torch.zeros_like(blocks, dtype=torch.bool).scatter(-1, gone, True)
    return mask.flatten(-2).movedim(-1, 1)


class NM(Compressor):
    """Keeps the n largest of every m consecutive inputs of each output and position; the rest is 0.

    The zeros stay in place: no CPU kernel uses the pattern, so dense size and latency are as
    before. Biases are left alone.

    Args:
        n: Weights that are kept.
        m: Of how many; a layer whose inputs it does not divide is named and left.
        sparsity: Follows from n and m: 1 - n / m; leave it out.
        **selection: Those of Compressor.

    Reference:
        Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, for 2 of 4.
    """

    treatable: ClassVar = ("Conv1d", "Conv2d", "Conv3d", "Linear")
    default_types: ClassVar = treatable

    def __init__(
        self, *, n: int = 2, m: int = 4, sparsity: float | None = None, **selection: Any
    ) -> None:
        if not (type(n) is int and type(m) is int and 0 < n < m):
            raise ConfigError([f"compressor.n of compressor.m, 0 < n < m, got {n!r} of {m!r}"])
        follows = 1 - n / m
        super().__init__(sparsity=follows, **selection)
        given = [sparsity, *(entry.get("sparsity") for entry in self.entries.values())]
        if any(value not in (None, follows) for value in given):
            raise ConfigError(
                [f"sparsity follows from n and m, {n} of {m} kept is {follows:g}; leave it out"]
            )
        self.n, self.m = n, m

    def options(self) -> dict[str, Any]:
        """The pattern."""
        return {"n": self.n, "m": self.m}

    def decide(self, task: Task) -> Decision:
        """Mask each layer whose inputs come in blocks of m."""
        masked: dict[str, Tensor] = {}
        left: list[str] = []
        for name in task.selection.sparsity:
            weight: Any = task.layer(name).weight
            if weight.shape[1] % self.m:
                left.append(f"{name} ({weight.shape[1]})")
                continue
            mask = but_largest(weight.detach(), n=self.n, m=self.m)
            masked[f"{task.prefix}{name}.weight"] = mask.cpu()
        notes = []
        if left:
            notes.append(
                f"{', '.join(left)}: left whole, {self.m} does not divide the number of inputs"
            )
        if masked:
            notes.append(
                f"{self.n} of {self.m} inputs are kept, the others are zero but stored: no CPU "
                "kernel uses the pattern, dense size and latency stay as they were"
            )
        return Decision(edits=Edits(masked=masked), notes=notes)
