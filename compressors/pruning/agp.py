"""Gradual pruning: a little at a time while the network is trained."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.pruning.coupling import width
from compressors.pruning.criteria import FPGM, L2Filter, RandomFilter
from compressors.pruning.filters import FilterPruner, L1Filter
from compressors.pruning.level import Level
from compressors.pruning.observed import (
    ActivationAPoZRank,
    ActivationMeanRank,
    TaylorFirstOrderWeight,
)
from compressors.selection import sparsity_faults
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import enforce, history, perform

BASES: Mapping[str, type[Level | FilterPruner]] = {
    "level": Level,
    "l1_filter": L1Filter,
    "l2_filter": L2Filter,
    "fpgm": FPGM,
    "random_filter": RandomFilter,
    "taylor_fo_weight": TaylorFirstOrderWeight,
    "activation_apoz_rank": ActivationAPoZRank,
    "activation_mean_rank": ActivationMeanRank,
}


def cubic(initial: float, final: float, progress: float) -> float:
    """Sparsity on the way from initial to final: steep first, flat at the end.

    Example:
        >>> [round(cubic(0.0, 0.8, progress), 6) for progress in (0.0, 0.5, 1.0)]
        [0.0, 0.7, 0.8]
    """
    return final + (initial - final) * (1 - progress) ** 3


class AGP(Compressor):
    """Prunes at epochs start, start + frequency, ..., end, and trains between them.

    Training starts anew after each step, with the optimizer and the schedule of the model.

    Args:
        initial_sparsity: Removed at the first step, in [0, 1).
        final_sparsity: Removed after the last one; an entry's own `sparsity` overrides it.
        start_epoch: Epochs of training before the first step.
        end_epoch: Epochs of training before the last step.
        frequency: Epochs of training between two steps.
        pruning_algorithm: What chooses: a name in `BASES`, with its defaults.
        sparsity: Is called final_sparsity here; leave it out.
        **selection: Those of Compressor.

    Reference:
        Zhu and Gupta, To Prune, or Not to Prune, ICLR 2018 workshop, equation 1.
    """

    needs: ClassVar = frozenset({"train", "batches"})

    def __init__(
        self,
        *,
        initial_sparsity: float,
        final_sparsity: float,
        start_epoch: int,
        end_epoch: int,
        frequency: int,
        pruning_algorithm: str = "level",
        sparsity: None = None,
        **selection: Any,
    ) -> None:
        faults = [f"initial_sparsity: {fault}" for fault in sparsity_faults(initial_sparsity)]
        faults += [f"final_sparsity: {fault}" for fault in sparsity_faults(final_sparsity)]
        if not all(type(n) is int for n in (start_epoch, end_epoch, frequency)) or not (
            0 <= start_epoch < end_epoch and frequency >= 1
        ):
            faults.append(
                "0 <= start_epoch < end_epoch and frequency >= 1, all of them whole, got "
                f"{start_epoch!r}, {end_epoch!r}, {frequency!r}"
            )
        if pruning_algorithm not in BASES:
            faults.append(unknown("pruning_algorithm", pruning_algorithm, BASES))
        if sparsity is not None:
            faults.append(f"sparsity is called final_sparsity here, got sparsity={sparsity!r}")
        if faults:
            raise ConfigError([f"compressor: {fault}" for fault in faults])
        super().__init__(sparsity=final_sparsity, **selection)
        self.initial_sparsity, self.final_sparsity = initial_sparsity, final_sparsity
        self.start_epoch, self.end_epoch, self.frequency = start_epoch, end_epoch, frequency
        self.pruning_algorithm, self.base = pruning_algorithm, BASES[pruning_algorithm]
        self.treatable = self.base.treatable  # type: ignore[misc]
        self.default_types = self.base.default_types  # type: ignore[misc]

    def options(self) -> dict[str, Any]:
        """The schedule and what chooses."""
        names = ("initial_sparsity", "final_sparsity", "start_epoch", "end_epoch", "frequency")
        return {name: getattr(self, name) for name in (*names, "pruning_algorithm")}

    @property
    def epochs(self) -> list[int]:
        """Epochs of training before each step."""
        return [*range(self.start_epoch, self.end_epoch, self.frequency), self.end_epoch]

    def decide(self, task: Task) -> Decision:
        """Train and prune in turn."""
        finals = task.selection.sparsity
        low = [name for name, final in finals.items() if final < self.initial_sparsity]
        if low:
            raise ConfigError(
                [f"initial_sparsity={self.initial_sparsity:g} is above the final one of {low[0]}"]
            )
        full = {name: self._count(task.layer(name)) for name in finals}
        before, trained, notes, said = len(history(task.model)), 0, [""], ""
        for epoch in self.epochs:
            if epoch > trained:
                task.given.train(task.model, epochs=epoch - trained, after_step=enforce)
            trained = epoch
            progress = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
            shares = {
                name: self._share(task, name, full[name], final, progress)
                for name, final in finals.items()
            }
            try:
                step = self._step(task, {name: s for name, s in shares.items() if s > 0})
            except IncompatibleModel as error:  # a later, larger step may change something
                said = str(error)
                continue
            self._refuse_masks(step)
            perform(task.model, step.edits)
            notes = step.notes
        if len(history(task.model)) == before:
            raise IncompatibleModel(f"{self.name}: {said}")
        return Decision(model=task.model, notes=[note for note in notes if note])

    def _step(self, task: Task, shares: Mapping[str, float]) -> Decision:
        """What the base does about these layers now."""
        if not shares:
            raise IncompatibleModel("so little of every layer rounds to nothing")
        entries: list[dict[str, Any]] = [
            {"op_names": [name], "sparsity": share} for name, share in shares.items()
        ]
        if task.selection.excluded:
            entries.append({"op_names": sorted(task.selection.excluded), "exclude": True})
        base = self.base(config_list=entries)
        return base.plan(task.model, task.example_inputs, task.given)

    def _refuse_masks(self, step: Decision) -> None:
        """Filters that are zeroed stay and could be chosen again: the sum would be wrong."""
        if step.edits.masked and issubclass(self.base, FilterPruner):
            raise IncompatibleModel(
                f"{self.name} removes a little at a time, and some filters cannot be removed; name "
                f"the layers in compressor.exclude. {' '.join(step.notes)}"
            )

    def _share(self, task: Task, name: str, full: int, final: float, progress: float) -> float:
        """Fraction of what is there now that has to go; masked weights are there."""
        target = count_removed(full, cubic(self.initial_sparsity, final, progress))
        left = self._count(task.layer(name))
        return max(target - (full - left), 0) / left

    def _count(self, layer: nn.Module) -> int:
        """Filters of a layer, or weights."""
        if issubclass(self.base, FilterPruner):
            return width(layer)
        return int(cast(Tensor, layer.weight).numel())
