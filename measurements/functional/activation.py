"""Units that do nothing, and how many activations are zero."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class UnitActivity:
    """Counts zeros of a layer's outputs that come in batches; keeps two numbers a unit.

    Hand over what comes out of the activation function. A unit is a channel: it is dead if it is
    zero at all places of all inputs. A share of dead units holds for the inputs seen: more inputs
    find fewer.

    Args:
        unit_dim: Dimension of the units: 1 for [B, K, H, W] and [B, D], -1 for [B, T, D].
        ceiling: Largest value of the activation function, 6 for ReLU6; None if there is none.

    Example:
        >>> found = UnitActivity(ceiling=6.0)
        >>> found.add(torch.tensor([[0.0, 1.0, 6.0, 0.0], [0.0, 2.0, 6.0, 3.0]]))
        >>> found.dead_share, found.sparsity, found.always_active_share, found.saturated_share
        (0.25, 0.375, 0.5, 0.25)

    Reference:
        Lu et al., Dying ReLU and initialization (2019), for dead units; Hu et al., Network
        trimming (2016), average percentage of zeros, for the sparsity.
    """

    unit_dim: int = 1
    ceiling: float | None = None
    inputs: int = 0
    _entries: int = 0  # for each unit
    _zeros: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    _at_ceiling: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def add(self, activations: Tensor) -> None:
        """Take the outputs for a batch; NaN counts as active."""
        ndim = activations.ndim
        if self.unit_dim in (0, -ndim) or abs(self.unit_dim) > ndim - 1 or not activations.numel():
            raise ValueError(
                f"expected activations with a batch and units in dimension {self.unit_dim}, "
                f"got {list(activations.shape)}"
            )
        by_unit = activations.detach().movedim(self.unit_dim, 0).flatten(start_dim=1)
        if self.inputs == 0:
            self._zeros = torch.zeros(len(by_unit), dtype=torch.int64)
            self._at_ceiling = torch.zeros(len(by_unit), dtype=torch.int64)
        if len(by_unit) != len(self._zeros):
            raise ValueError(f"expected {len(self._zeros)} units as before, got {len(by_unit)}")
        self._zeros += (by_unit == 0).sum(dim=1).cpu()
        if self.ceiling is not None:
            self._at_ceiling += (by_unit >= self.ceiling).sum(dim=1).cpu()
        self._entries += by_unit.shape[1]
        self.inputs += len(activations)

    @property
    def dead(self) -> Tensor:
        """Whether a unit was zero everywhere, bool [K]."""
        self._require_inputs()
        return self._zeros == self._entries

    @property
    def dead_share(self) -> float:
        """Units that were zero everywhere, in [0, 1]; lower uses more of the layer."""
        return _share(self.dead)

    @property
    def always_active_share(self) -> float:
        """Units that were never zero, in [0, 1]: with ReLU they are linear for these inputs."""
        self._require_inputs()
        return _share(self._zeros == 0)

    @property
    def saturated_share(self) -> float:
        """Units that were at the ceiling everywhere, in [0, 1]; lower is better."""
        self._require_inputs()
        if self.ceiling is None:
            raise ValueError("expected a ceiling to know what saturated means, got ceiling=None")
        return _share(self._at_ceiling == self._entries)

    @property
    def sparsity(self) -> float:
        """Zeros among all activations, in [0, 1]; neither direction is better."""
        self._require_inputs()
        return int(self._zeros.sum()) / (self._entries * len(self._zeros))

    def _require_inputs(self) -> None:
        if self.inputs == 0:
            raise ValueError("no activations were added: nothing to count")


def _share(units: Tensor) -> float:
    return int(units.sum()) / len(units)
