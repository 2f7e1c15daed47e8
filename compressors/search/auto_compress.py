"""Search, training and removal in turn: a walk finds the shares, training prepares for them."""

import copy
from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import nn

from compressors.base import Task
from compressors.options import whole
from compressors.pruning.admm import ADMM, ROWS
from compressors.pruning.coupling import width
from compressors.resources import Resources
from compressors.search.base import Search
from compressors.search.budget import Budget, Fit, alike
from compressors.search.oracle import Oracle, Scored
from compressors.search.simulated_annealing import SimulatedAnnealing
from core.errors import ConfigError


class AutoCompress(SimulatedAnnealing):
    """Comes to the budget in rounds; each takes an equal share of what is left.

    In a round, a walk among the shares of all layers finds the best candidate for this round's
    budget; the network is then trained towards losing these shares (`ADMM`), and loses them. What
    training left above the budget goes from all layers alike.

    Args:
        num_iterations: Rounds.
        cool_down_rate: As in SimulatedAnnealing; each round's walk cools down by its own end.
        admm_iterations: Rounds of training and choosing within a round.
        admm_epochs: Epochs of each of them.
        row: The penalty's factor; None for that of the effort, as in ADMM.
        max_evaluations: Candidates that may be scored in a round.
        **options: Those of SimulatedAnnealing.

    Reference:
        Liu et al., AutoCompress: An Automatic DNN Structured Pruning Framework for Ultra-High
        Compression Rates, AAAI 2020, algorithm 1. There, purification also takes out what has
        become small beyond the shares that were found; here exactly these go.
    """

    needs: ClassVar = Search.needs
    efforts: ClassVar = {
        "quick": {
            **SimulatedAnnealing.efforts["quick"],
            "max_evaluations": 13,
            "admm_iterations": 3,
            "admm_epochs": 1,
        },
        "paper": {
            **SimulatedAnnealing.efforts["paper"],
            "admm_iterations": 30,
            "admm_epochs": 5,
        },
    }

    def __init__(
        self,
        *,
        num_iterations: int = 3,
        cool_down_rate: float | None = None,
        admm_iterations: int | None = None,
        admm_epochs: int | None = None,
        row: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(cool_down_rate=cool_down_rate, **options)
        self.needs = Search.needs  # type: ignore[misc]  # it trains, whatever the candidates do
        faults = whole(num_iterations, "num_iterations")
        faults += whole(admm_iterations, "admm_iterations", or_null=True)
        faults += whole(admm_epochs, "admm_epochs", or_null=True)
        if faults:
            raise ConfigError(faults)
        preset = self.efforts[self.effort]
        self.num_iterations = num_iterations
        self.row = ROWS[self.effort] if row is None else row
        self.admm_iterations: int = admm_iterations or preset["admm_iterations"]
        self.admm_epochs: int = admm_epochs or preset["admm_epochs"]
        self._admm(1)  # checks the rest

    def options(self) -> dict[str, Any]:
        """Those of the walk, the rounds, and the training in them."""
        names = ("num_iterations", "admm_iterations", "admm_epochs", "row")
        return {**super().options(), **{name: getattr(self, name) for name in names}}

    def oracle(self, task: Task) -> Oracle:
        """An oracle without a limit: each round has its own."""
        oracle = super().oracle(task)
        oracle.max_evaluations = None
        return oracle

    def expected(self, oracle: Oracle) -> int:
        """The same share of every layer, untrained and trained; each round's walk and result."""
        walk = super().expected(oracle)
        limit = walk if self.max_evaluations is None else min(walk, self.max_evaluations)
        return 2 + self.num_iterations * (limit + 1)

    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Walk, train, remove, as often as there are rounds."""
        found, standing, epochs = oracle.best, oracle.task.model, 0
        for number in range(1, self.num_iterations + 1):
            share = 1 - (1 - budget.sparsity) ** (number / self.num_iterations)
            goal = replace(budget, sparsity=share)
            walked = self._walk(oracle, goal)
            if walked is None:
                return None
            trained = self._trained(oracle, standing, walked.model, number, epochs)
            epochs += 0 if trained is standing else self.admm_iterations * self.admm_epochs
            oracle.move(replace(walked, model=trained, by_edits=False, epochs=epochs))
            found = self._rest(oracle, goal, trained, epochs)
            if found is None:
                return None
            standing, epochs = found.model, found.epochs
        return found

    def _rest(self, oracle: Oracle, goal: Budget, trained: nn.Module, epochs: int) -> Scored | None:
        """What is left of the trained network, which the oracle stands on, within the goal."""
        fit = alike(oracle, goal)
        if fit is None:
            return None
        if fit.candidate.edits.is_empty:
            score = oracle.ask(trained)
            return Scored(
                candidate=fit.candidate, model=trained, by_edits=False, score=score, epochs=epochs
            )
        oracle.score(fit.candidate)
        found = oracle.best
        if found is not None:
            oracle.move(found)
        return found

    def _walk(self, oracle: Oracle, goal: Budget) -> Scored | None:
        """The best candidate of this round."""
        oracle.forget()
        if self.max_evaluations is not None:
            oracle.max_evaluations = oracle.evaluations + self.max_evaluations
        first = alike(oracle, goal)
        walked = super().search(oracle, goal, first) if first else None
        oracle.max_evaluations = None
        return walked

    def _trained(
        self, oracle: Oracle, standing: nn.Module, walked: nn.Module, number: int, epochs: int
    ) -> nn.Module:
        """The network without the filters that the walk took out, trained towards that before.

        Args:
            oracle: Of the search.
            standing: Before this round; left as it is.
            walked: What the walk came to, for its widths.
            number: Of the round.
            epochs: Of training before this round.
        """
        task = oracle.task

        def share(layer: str) -> float:
            before, after = (
                width(model.get_submodule(task.prefix + layer)) for model in (standing, walked)
            )
            return 1 - after / before

        shares = {layer: share(layer) for layer in task.selection.sparsity}
        wanted = {layer: gone for layer, gone in shares.items() if gone > 0}
        if not wanted:
            return standing
        selection = replace(task.selection, sparsity=wanted)
        model, given = copy.deepcopy(standing), _further(task.given, epochs)
        further = replace(task, model=model, selection=selection, resources=given)
        trained = cast(nn.Module, self._admm(number).decide(further).model)
        oracle.renew(trained)  # its statistics are from before the filters went
        return trained

    def _admm(self, number: int) -> ADMM:
        return ADMM(
            name=f"{self.name}, round {number} of {self.num_iterations}",
            sparsity=0.5,
            num_iterations=self.admm_iterations,
            training_epochs=self.admm_epochs,
            row=self.row,
            base_algo=self.base_algo,
        )


def _further(given: Resources, trained: int) -> Resources:
    """The same, for a model that was trained for so many epochs."""

    def train(model: nn.Module, *, epochs: int, **options: Any) -> None:
        first = trained + options.pop("first_epoch", 0)
        given.train(model, epochs=epochs, first_epoch=first, **options)

    return replace(given, train=train)
