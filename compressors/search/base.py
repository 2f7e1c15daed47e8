"""What every search under a budget is: the same share of all first, then something better."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, cast, get_args

from compressors.base import Compressor, Decision, Task
from compressors.forecast import announce
from compressors.options import whole
from compressors.pruning.bases import BASES
from compressors.pruning.filters import FilterPruner
from compressors.search.budget import Budget, Fit, uniform
from compressors.search.oracle import CLOCK, Clock, Oracle, Quantity, Scored
from core.errors import ConfigError, IncompatibleModel, unknown
from models.edits import enforce

CRITERIA = {n: kind for n, kind in BASES.items() if issubclass(kind, FilterPruner)}
MODES = ("maximize", "minimize")
SHOWN = 6
"""Groups that a sentence names."""
CAUSES = 3
"""Causes that a sentence names."""


class Search(Compressor):
    """Shares a budget out over the layers so that the score stays as good as it can.

    The first candidate takes the same share of every layer; nothing that scores worse comes out.
    Where the search trained a network for more epochs, that candidate is trained for as many before
    the two are compared.

    Args:
        budget: Quantity that `sparsity` is a fraction of: params, macs or latency.
        base_algo: What chooses the filters of a layer: a name in `CRITERIA`, with its defaults.
        optimize_mode: maximize where a higher score is better, minimize for a loss.
        effort: What options left None are: a name in `efforts`.
        epochs: Of training before each candidate is scored.
        max_evaluations: Candidates that may be scored.
        statistics_samples: Of the tuning data; on so many the BatchNorm statistics of a candidate
            that is not trained are estimated anew, and come out with it; 0 leaves them.
        **selection: Those of Compressor; all entries have one sparsity.
    """

    treatable: ClassVar = FilterPruner.treatable
    default_types: ClassVar = FilterPruner.default_types
    needs: ClassVar = frozenset({"score", "train", "batches", "seed"})
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]]
    clock: Clock = CLOCK
    """Compares latencies."""

    def __init__(
        self,
        *,
        budget: Quantity = "macs",
        base_algo: str = "l1_filter",
        optimize_mode: str = "maximize",
        effort: str = "quick",
        epochs: int | None = None,
        max_evaluations: int | None = None,
        statistics_samples: int = 1024,
        **selection: Any,
    ) -> None:
        faults = [
            unknown(f"compressor.{key}", value, known)
            for key, value, known in (
                ("budget", budget, get_args(Quantity)),
                ("base_algo", base_algo, CRITERIA),
                ("optimize_mode", optimize_mode, MODES),
                ("effort", effort, self.efforts),
            )
            if value not in known
        ]
        faults += whole(epochs, "epochs", least=0, or_null=True)
        faults += whole(max_evaluations, "max_evaluations", or_null=True)
        faults += whole(statistics_samples, "statistics_samples", least=0)
        if faults:
            raise ConfigError(faults)
        super().__init__(**selection)
        preset = self.efforts[effort]
        self.budget, self.base_algo, self.effort = budget, base_algo, effort
        self.optimize_mode = optimize_mode
        self.epochs: int = preset["epochs"] if epochs is None else epochs
        self.max_evaluations: int | None = max_evaluations or preset.get("max_evaluations")
        self.statistics_samples = statistics_samples
        if not self.epochs:
            self.needs = self.needs - {"train"}  # type: ignore[misc]

    @abstractmethod
    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Look for the best candidate within the budget; None where none of them can be made.

        Args:
            oracle: Has scored `first` alone, which is its `best` if it can be made.
            budget: Can be met.
            first: The same share of every group.
        """

    @abstractmethod
    def expected(self, oracle: Oracle) -> int:
        """How many candidates will be scored at most."""

    def untrained(self, oracle: Oracle) -> int:
        """How many of them are scored without the training of the others."""
        return 0

    def options(self) -> dict[str, Any]:
        """What is searched, and how hard."""
        return {
            "budget": self.budget,
            "base_algo": self.base_algo,
            "optimize_mode": self.optimize_mode,
            "effort": self.effort,
            "epochs": self.epochs,
            "max_evaluations": self.max_evaluations,
            "statistics_samples": self.statistics_samples,
        }

    def decide(self, task: Task) -> Decision:
        """Score the same share of every layer, search, keep the better one."""
        oracle = self.oracle(task)
        budget = Budget(quantity=self.budget, sparsity=self._sparsity(task))
        first = uniform(oracle, budget)
        with oracle.watched(self.expected(oracle), untrained=self.untrained(oracle)):
            oracle.score(first.candidate)
            level = oracle.best
            found = self.search(oracle, budget, first)
            if level is not None and found is not None:
                level = self._trained_alike(oracle, level, found.epochs)
        chosen = _better(oracle, level, found)
        decision = chosen.decision()
        decision.achieved.update(candidates=oracle.evaluations, score=chosen.score)
        if level is not None:
            decision.achieved["uniform_score"] = level.score
        decision.notes.extend([*oracle.notes, *task.given.said, _gone(oracle, chosen)])
        decision.notes.extend(failures(oracle))
        decision.notes.append(
            f"{oracle.evaluations} candidates were scored: the same share of every layer removes "
            f"{budget.sparsity:g} of the {self.budget} at {_told(level)}, the search "
            f"{_told(found)}" + (", so the same share of every layer was taken" * (chosen is level))
        )
        return decision

    def _trained_alike(self, oracle: Oracle, level: Scored, epochs: int) -> Scored:
        """The same share of every layer after as many epochs as what is compared with it."""
        more = epochs - level.epochs
        if more <= 0:
            return level
        task, model = oracle.task, copy.deepcopy(level.model)
        announce(f"{self.name}, the same share of every layer", task, epochs=more)
        task.given.train(model, epochs=more, first_epoch=level.epochs, after_step=enforce)
        score = oracle.ask(model)
        return replace(level, model=model, by_edits=False, score=score, epochs=epochs)

    def oracle(self, task: Task) -> Oracle:
        """The oracle of this search."""
        return Oracle(
            task,
            CRITERIA[self.base_algo](sparsity=0.5),
            name=self.name,
            epochs=self.epochs,
            statistics_samples=self.statistics_samples,
            maximize=self.optimize_mode == "maximize",
            max_evaluations=self.max_evaluations,
            clock=self.clock,
        )

    def _sparsity(self, task: Task) -> float:
        values = sorted(set(task.selection.sparsity.values()))
        if len(values) > 1:
            raise ConfigError([f"{self.name} has one budget for the whole network, got {values}"])
        return values[0]


def _better(oracle: Oracle, level: Scored | None, found: Scored | None) -> Scored:
    """What was found, unless the same share of every layer is better.

    Raises:
        IncompatibleModel: There is neither; the text says why.
    """
    if found is None and level is None:
        raise IncompatibleModel(" ".join([f"{oracle.name} found nothing.", *failures(oracle)]))
    if found is None or level is None:
        return cast(Scored, found or level)
    return level if oracle.is_better(level.score, found.score) else found


def failures(oracle: Oracle) -> list[str]:
    """How many candidates could not be made, and the most common causes."""
    if not oracle.failed:
        return []
    causes = "; or because ".join(why for why, _ in oracle.failed.most_common(CAUSES))
    return [
        f"candidates that cannot be made and were passed over: {oracle.failed.total()}, because "
        f"{causes}"
    ]


def _told(scored: Scored | None) -> str:
    """A score and the training before it."""
    if scored is None:
        return "nothing that can be made"
    epochs = f"{scored.epochs} epoch{'s' * (scored.epochs > 1)}"
    trained = f"after {epochs} of training" if scored.epochs else "untrained"
    return f"a score of {scored.score:.4f} {trained}"


def _gone(oracle: Oracle, chosen: Scored) -> str:
    """Where most goes, as a sentence."""
    ratios = chosen.candidate.ratios
    most = sorted(ratios, key=lambda name: -ratios[name])
    shown = ", ".join(f"{name} {ratios[name]:.2f}" for name in most[:SHOWN])
    more = f" and {len(most) - SHOWN} more" if len(most) > SHOWN else ""
    return f"filters that are gone: {shown}{more}"
