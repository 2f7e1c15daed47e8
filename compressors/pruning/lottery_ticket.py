"""A sparse network that was there from the beginning, found by training the whole one."""

import copy
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from compressors.base import Compressor, Decision, Task
from compressors.forecast import announce
from compressors.options import QUICK_EPOCHS, Effort, effort_faults, whole
from compressors.pruning.bases import decided_by
from compressors.pruning.level import Level, Scope
from core.errors import ConfigError, DataError
from models.checkpoints import load_weights
from models.download import is_url
from models.edits import enforce, perform


def kept_share(sparsity: float, *, iteration: int, of: int) -> float:
    """Fraction of the weights that is left after some of the prunings; each takes an equal share.

    Args:
        sparsity: Removed after the last one, in [0, 1).
        iteration: How many were carried out.
        of: How many there are.

    Example:
        >>> [round(kept_share(0.5, iteration=i, of=2), 4) for i in (0, 1, 2)]
        [1.0, 0.7071, 0.5]
    """
    return float((1 - sparsity) ** (iteration / of))


class LotteryTicket(Compressor):
    """Trains, zeroes the smallest weights, sets the others back to early weights, and trains again.

    The first round trains the whole network from the early weights; then prune_iterations times
    an equal share of what is left becomes zero, and what remains is trained from the early weights
    again. Only masks: size of a dense file and latency stay.

    The optimizer and the learning-rate schedule are those of the model (`model.optimizer`,
    `model.scheduler`, ...); every round is a training of its own, so the schedule starts anew in
    each.

    Args:
        prune_iterations: How many times weights are zeroed.
        epochs: Of training in each of the prune_iterations + 1 rounds.
        rewind_to: Where early weights are, from before the training or from its beginning: a file
            of weights, an artifact folder, or a URL. Needed unless reset_weights is false.
        reset_weights: False goes on from the weights that were trained last, in every round.
        scope: `layer` ranks within each layer, `global` among all layers of equal sparsity.
        effort: `paper` does all of it; `quick` at most ten epochs altogether, in as many rounds.
        **selection: Those of Compressor.

    Reference:
        Frankle and Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 1, strategy of
        iterative pruning with resetting; early weights instead of initial ones as in Frankle et
        al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML 2020.
    """

    treatable: ClassVar = Level.treatable
    default_types: ClassVar = Level.default_types
    needs: ClassVar = frozenset({"train"})

    def __init__(
        self,
        *,
        prune_iterations: int,
        epochs: int,
        rewind_to: str | None = None,
        reset_weights: bool = True,
        scope: Scope = "layer",
        effort: Effort = "paper",
        **selection: Any,
    ) -> None:
        super().__init__(**selection)
        faults = whole(prune_iterations, "prune_iterations") + whole(epochs, "epochs")
        faults += _rewind_faults(rewind_to, reset_weights) + effort_faults(effort)
        if faults:
            raise ConfigError(faults)
        Level(sparsity=0.0, scope=scope)  # checks the scope
        self.prune_iterations, self.epochs, self.scope = prune_iterations, epochs, scope
        self.rewind_to, self.reset_weights, self.effort = rewind_to, reset_weights, effort

    def options(self) -> dict[str, Any]:
        """Rounds, and where each of them starts."""
        names = ("prune_iterations", "epochs", "rewind_to", "reset_weights", "scope", "effort")
        return {name: getattr(self, name) for name in names}

    @property
    def rounds(self) -> tuple[int, int]:
        """Rounds of training, the first without pruning, and epochs of each."""
        rounds = self.prune_iterations + 1
        if self.effort == "paper":
            return rounds, self.epochs
        rounds = min(rounds, QUICK_EPOCHS)
        return rounds, min(self.epochs, QUICK_EPOCHS // rounds)

    def decide(self, task: Task) -> Decision:
        """Rewind and train; zero, rewind and train, as often as wanted."""
        early = None if self.rewind_to is None else _early_weights(task.model, self.rewind_to)
        rounds, epochs = self.rounds
        self._pruning(task, 1)  # one that rounds to nothing is refused before anything is trained
        announce(f"{self.name}, effort={self.effort}", task, epochs=rounds * epochs)
        self._train(task, early, epochs)
        notes: list[str] = []
        for iteration in range(1, rounds):
            step = self._pruning(task, iteration)
            perform(task.model, step.edits)
            notes = step.notes
            self._train(task, early, epochs)
        return Decision(model=task.model, notes=notes)

    def _pruning(self, task: Task, iteration: int) -> Decision:
        """What is zero after so many prunings, of the weights as they are now."""
        of = self.rounds[0] - 1
        gone = {
            name: 1 - kept_share(sparsity, iteration=iteration, of=of)
            for name, sparsity in task.selection.sparsity.items()
        }
        return decided_by(Level, task, gone, asked=self.name, scope=self.scope)

    def _train(self, task: Task, early: dict[str, Tensor] | None, epochs: int) -> None:
        """One round: from the early weights if there are any; what is zero stays zero."""
        if early is not None:
            task.model.load_state_dict(early)
            enforce(task.model)
        task.given.train(task.model, epochs=epochs, after_step=enforce)


def _rewind_faults(rewind_to: Any, reset_weights: Any) -> list[str]:
    """What is wrong with where a round starts."""
    if not isinstance(reset_weights, bool):
        return [f"compressor.reset_weights is true or false, got {reset_weights!r}"]
    if not reset_weights:
        told = "compressor.reset_weights=false rewinds nothing: pass compressor.rewind_to=null"
        return [] if rewind_to is None else [told]
    if not isinstance(rewind_to, str) or not rewind_to:
        return [
            "compressor.rewind_to is missing: the path of weights from before the training, or "
            f"from its beginning, got {rewind_to!r}"
        ]
    if not is_url(rewind_to) and not Path(rewind_to).expanduser().exists():
        return [f"compressor.rewind_to: there is no checkpoint at {rewind_to}"]
    return []


def _early_weights(model: nn.Module, source: str) -> dict[str, Tensor]:
    """State of the model with the weights of a checkpoint in it.

    Raises:
        ConfigError: The checkpoint is none, or of another network.
    """
    twin = copy.deepcopy(model)
    try:
        load_weights(twin, source)
    except (DataError, OSError) as error:
        raise ConfigError([f"compressor.rewind_to: {error}"]) from error
    own, early = model.state_dict(), twin.state_dict()
    other = [n for n in own.keys() | early.keys() if n not in own or n not in early]
    other += [n for n in own.keys() & early.keys() if own[n].shape != early[n].shape]
    if other:
        raise ConfigError(
            [
                f"compressor.rewind_to: the network of {source} has other layers or widths, such "
                f"as {min(other)}; weights from before it was pruned belong to the whole network"
            ]
        )
    return early
