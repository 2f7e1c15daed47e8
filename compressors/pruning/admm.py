"""Training towards a sparse network before anything is taken out of it."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressors.base import Compressor, Decision, Task
from compressors.forecast import announce
from compressors.options import QUICK_EPOCHS, Effort, effort_faults, positive, whole
from compressors.pruning.bases import BASES, WHOLE, decided_by
from core.errors import ConfigError, unknown
from models.edits import Edits, enforce, mask, perform

ROWS: Mapping[str, float] = {"quick": 0.1, "paper": 1e-4}
"""Factor of the penalty: the few steps of a quick training have to be drawn harder."""

Tensors = Mapping[str, Tensor]


class Split:
    """Weights W, a copy Z of them that is sparse, and U, the sum of how far they were apart.

    A parameter of which nothing is to go needs no copy: there, Z = W + U and the next U is 0.
    """

    def __init__(self) -> None:
        self.copies: dict[str, Tensor] = {}
        self.duals: dict[str, Tensor] = {}

    def shifted(self, weights: Tensors) -> dict[str, Tensor]:
        """W + U, of which Z is the sparse form."""
        return {
            name: w + self.duals[name] if name in self.duals else w for name, w in weights.items()
        }

    def project(self, weights: Tensors, kept: Tensors) -> None:
        """Let Z be W + U where it is kept, and zero elsewhere."""
        shifted = self.shifted(weights)
        self.copies = {name: shifted[name] * entries for name, entries in kept.items()}

    def update(self, weights: Tensors) -> None:
        """Add W - Z to U."""
        shifted = self.shifted(weights)
        self.duals = {name: shifted[name] - z for name, z in self.copies.items()}

    def penalty(self, model: nn.Module, row: float) -> Tensor:
        """Square of |W - Z + U| times row / 2, which training makes smaller."""
        distances = [
            (w - (self.copies[name] - self.duals.get(name, 0)).to(w.device)).square().sum()
            for name, w in model.named_parameters()
            if name in self.copies
        ]
        return row / 2 * torch.stack(distances).sum()


class ADMM(Compressor):
    """Trains the network towards the sparse form that a criterion wants, then carries that out.

    In turn, the network is trained with a penalty on its distance from a sparse copy, and the
    copy is chosen anew: by the criterion, of the weights plus the sum of all distances so far.
    All that goes with a filter is drawn to zero: its weights and bias, the scale and shift of its
    norm, and what the layers behind do with it. Training starts anew in each round, with the
    optimizer and the schedule of the model.

    Args:
        num_iterations: Rounds of training and choosing.
        training_epochs: Epochs of training in a round.
        row: The penalty's factor, rho in the paper; None for that of the effort, see `ROWS`.
        base_algo: The criterion: a name in `BASES` or `WHOLE`, with its defaults.
        effort: `paper` does all of it; `quick` at most ten epochs altogether, in as many rounds.
        **selection: Those of Compressor.

    Reference:
        Zhang et al., A Systematic DNN Weight Pruning Framework using Alternating Direction Method
        of Multipliers, ECCV 2018, section 3. There the constraint is a number of weights, and a
        last training keeps the zeros: that is `finetune` here.
    """

    needs: ClassVar = frozenset({"train", "batches"})

    def __init__(
        self,
        *,
        num_iterations: int = 30,
        training_epochs: int = 5,
        row: float | None = None,
        base_algo: str = "l1_filter",
        effort: Effort = "paper",
        **selection: Any,
    ) -> None:
        super().__init__(**selection)
        faults = whole(num_iterations, "num_iterations")
        faults += whole(training_epochs, "training_epochs")
        faults += positive(row, "row", or_null=True)
        bases = {**BASES, **WHOLE}
        if base_algo not in bases:
            faults.append(unknown("compressor.base_algo", base_algo, bases))
        faults += effort_faults(effort)
        if faults:
            raise ConfigError(faults)
        self.num_iterations, self.training_epochs = num_iterations, training_epochs
        self.row: float = row if row is not None else ROWS[effort]
        self.base_algo, self.effort = base_algo, effort
        self.base, self.asked = bases[base_algo], f"{self.name}: base_algo={base_algo}"
        self.treatable = self.base.treatable  # type: ignore[misc]
        self.default_types = self.base.default_types  # type: ignore[misc]

    def options(self) -> dict[str, Any]:
        """How it is trained, and what chooses."""
        names = ("num_iterations", "training_epochs", "row", "base_algo", "effort")
        return {name: getattr(self, name) for name in names}

    @property
    def rounds(self) -> tuple[int, int]:
        """Rounds, and epochs of each, that this effort allows."""
        if self.effort == "paper":
            return self.num_iterations, self.training_epochs
        rounds = min(self.num_iterations, QUICK_EPOCHS)
        return rounds, min(self.training_epochs, QUICK_EPOCHS // rounds)

    def decide(self, task: Task) -> Decision:
        """Train towards the sparse network, round by round, then make it sparse."""
        model, split = task.model, Split()
        rounds, epochs = self.rounds
        kept = self._kept(task, split)
        before = _share_outside(_weights(model), kept)
        announce(f"{self.name}, effort={self.effort}", task, epochs=rounds * epochs)
        split.project(_weights(model), kept)
        for number in range(rounds):
            task.given.train(
                model,
                epochs=epochs,
                first_epoch=number * epochs,
                penalty=lambda trained: split.penalty(trained, self.row),
                after_step=enforce,
            )
            kept = self._kept(task, split)
            split.project(_weights(model), kept)
            split.update(_weights(model))
        last = self._decided(task, model)
        after = _share_outside(_weights(model), _kept_by(model, last.edits))
        perform(model, last.edits)
        drawn = (
            f"what is taken out held {before:.2%} of the squared weights it touches, and "
            f"{after:.2%} after training towards its removal"
        )
        return Decision(model=model, notes=[drawn, *last.notes])

    def _kept(self, task: Task, split: Split) -> dict[str, Tensor]:
        """Entries that the criterion would leave of W + U."""
        model = copy.deepcopy(task.model)
        shifted = split.shifted(_weights(model))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(shifted[name])
        return _kept_by(model, self._decided(task, model).edits)

    def _decided(self, task: Task, model: nn.Module) -> Decision:
        """What the criterion would take out of a network."""
        sparsity = task.selection.sparsity
        return decided_by(self.base, task, sparsity, asked=self.asked, model=model)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _kept_by(model: nn.Module, edits: Edits) -> dict[str, Tensor]:
    """Which entries stay, bool, of the parameters of which edits take something away.

    A norm across channels is left out: it keeps the shape of what it computes.
    """
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(1)
    mask(twin, edits)
    own = {name for name, _ in model.named_parameters()}
    ones = {name: p.detach().bool() for name, p in twin.named_parameters() if name in own}
    return {name: entries for name, entries in ones.items() if not entries.all()}


def _share_outside(weights: Tensors, kept: Tensors) -> float:
    """Part of the squared weights that does not stay, of the parameters that lose something."""
    gone = sum(float((weights[name] * ~entries).square().sum()) for name, entries in kept.items())
    return gone / sum(float(weights[name].square().sum()) for name in kept)
