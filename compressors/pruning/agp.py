"""Gradual pruning: a little at a time while the network is trained."""

from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.forecast import announce
from compressors.pruning.bases import BASES, WHOLE, decided_by
from compressors.pruning.coupling import width
from compressors.pruning.filters import FilterPruner
from compressors.resources import Resources
from compressors.selection import sparsity_faults
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import enforce, perform


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
        if pruning_algorithm in WHOLE:
            faults.append(
                f"pruning_algorithm={pruning_algorithm} counts channels of all layers at once, and "
                "the schedule those of each layer; admm has it as base_algo"
            )
        elif pruning_algorithm not in BASES:
            faults.append(unknown("pruning_algorithm", pruning_algorithm, BASES))
        if sparsity is not None:
            faults.append(f"sparsity is called final_sparsity here, got sparsity={sparsity!r}")
        if faults:
            raise ConfigError([f"compressor: {fault}" for fault in faults])
        super().__init__(sparsity=final_sparsity, **selection)
        self.initial_sparsity, self.final_sparsity = initial_sparsity, final_sparsity
        self.start_epoch, self.end_epoch, self.frequency = start_epoch, end_epoch, frequency
        self.pruning_algorithm, self.base = pruning_algorithm, BASES[pruning_algorithm]
        self.asked = f"{self.name}: pruning_algorithm={pruning_algorithm}"
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

    def sparsity_at(self, epoch: int, final: float | None = None) -> float:
        """Fraction that is gone after the step before this epoch, if there is one.

        Args:
            epoch: From start_epoch to end_epoch.
            final: Of a layer with an entry of its own; left out: final_sparsity.
        """
        progress = (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)
        return cubic(
            self.initial_sparsity, self.final_sparsity if final is None else final, progress
        )

    def decide(self, task: Task) -> Decision:
        """Train and prune in turn."""
        gradual, trained = Gradual(self, task), 0
        notes: list[str] = []
        # what is nothing as a whole is refused before anything is trained
        decided_by(self.base, task, task.selection.sparsity, asked=self.asked)
        announce(self.name, task, epochs=self.end_epoch)
        for epoch in self.epochs:
            if epoch > trained:
                task.given.train(
                    task.model, epochs=epoch - trained, first_epoch=trained, after_step=enforce
                )
            trained = epoch
            step = gradual.update_epoch(epoch)
            notes = notes if step is None else step.notes
        return Decision(model=task.model, notes=notes)

    def begin(
        self, model: nn.Module, example_inputs: Tensor, resources: Resources | None = None
    ) -> "Gradual":
        """Prune `model` in place, for a training loop of your own.

        Call `update_epoch` before each epoch, give the optimizer the parameters it has then, and
        call `models.edits.enforce` after each of its steps.

        Args:
            model: In eval mode; not touched before the first `update_epoch`.
            example_inputs: One batch it accepts, shape [N, K, H, W].
            resources: For a pruning_algorithm that looks at data.
        """
        task = self._task(model, example_inputs, resources)
        return Gradual(self, replace(task, model=model))


class Gradual:
    """One network on its way through the schedule.

    Args:
        recipe: Schedule and criterion.
        task: Its model is pruned in place.
    """

    def __init__(self, recipe: AGP, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.obstacle = ""
        finals, initial = task.selection.sparsity, recipe.initial_sparsity
        low = [name for name, final in finals.items() if final < initial]
        if low:
            raise ConfigError([f"initial_sparsity={initial:g} is above the final one of {low[0]}"])
        self._full = {name: self._count(name) for name in finals}

    def update_epoch(self, epoch: int) -> Decision | None:
        """Prune what the schedule wants gone by now, if a step is due before this epoch.

        Args:
            epoch: How many epochs the network was trained.

        Returns:
            The step, with what a reader would not expect; None where nothing changed: no step was
            due, or `obstacle` says why it could not.
        """
        if epoch not in self.recipe.epochs:
            return None
        shares = {name: self._share(name, epoch) for name in self._full}
        try:
            step = decided_by(self.recipe.base, self.task, shares, asked=self.recipe.asked)
        except IncompatibleModel as error:  # a later, larger step may change something
            self.obstacle = str(error)
            return None
        self._refuse_masks(step)
        perform(self.task.model, step.edits)
        return step

    def _refuse_masks(self, step: Decision) -> None:
        """Filters that are zeroed stay and could be chosen again: the sum would be wrong."""
        if step.edits.masked and issubclass(self.recipe.base, FilterPruner):
            raise IncompatibleModel(
                f"{self.recipe.name} removes a little at a time, and some filters cannot be "
                "removed; name the layers in compressor.exclude. " + "; ".join(step.notes)
            )

    def _share(self, name: str, epoch: int) -> float:
        """Fraction of what is there now that has to go; masked weights are there."""
        final, full = self.task.selection.sparsity[name], self._full[name]
        target = count_removed(full, self.recipe.sparsity_at(epoch, final))
        left = self._count(name)
        return max(target - (full - left), 0) / left

    def _count(self, name: str) -> int:
        """Filters of a layer, or weights."""
        layer = self.task.layer(name)
        if issubclass(self.recipe.base, FilterPruner):
            return width(layer)
        return int(cast(Tensor, layer.weight).numel())
