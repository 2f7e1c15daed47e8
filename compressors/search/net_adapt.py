"""A budget met in small steps, each taken by the layer that can best bear it."""

from dataclasses import replace
from typing import Any, ClassVar

from compressors.options import positive
from compressors.search.base import Search
from compressors.search.budget import Budget, Fit, ceil_of, fitted
from compressors.search.oracle import Oracle, Scored
from core.errors import ConfigError


class NetAdapt(Search):
    """Removes a little of the budget at a time, all of it from one layer: from the best one.

    In each iteration, every layer alone (with those tied to it) loses as few filters as reach the
    iteration's goal, is trained shortly, and is scored; the best network is gone on with. Where no
    layer alone reaches the goal, all lose the same further share.

    Args:
        sparsity_per_iteration: Fraction of the quantity, of what it was at first, in (0, 1).
        short_term_epochs: Of training of each candidate.
        **options: Those of Search.

    Reference:
        Yang et al., NetAdapt, ECCV 2018, algorithm 1; the long-term training is left to `finetune`.
    """

    efforts: ClassVar = {"quick": {"epochs": 0}, "paper": {"epochs": 1}}

    def __init__(
        self,
        *,
        sparsity_per_iteration: float = 0.05,
        short_term_epochs: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(epochs=short_term_epochs, **options)
        faults = positive(sparsity_per_iteration, "sparsity_per_iteration", below=1)
        if self.max_evaluations is not None:
            faults.append("compressor.max_evaluations: the iterations say how many there are")
        if faults:
            raise ConfigError(faults)
        self.sparsity_per_iteration = sparsity_per_iteration

    def options(self) -> dict[str, Any]:
        """Those of every search, and how far an iteration goes."""
        return {**super().options(), "sparsity_per_iteration": self.sparsity_per_iteration}

    def expected(self, oracle: Oracle) -> int:
        """Every group in each iteration; the same share of all, trained for as long, once more."""
        (sparsity,) = set(oracle.task.selection.sparsity.values())
        return (
            1
            + bool(self.epochs)
            + ceil_of(sparsity / self.sparsity_per_iteration) * len(oracle.filters)
        )

    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Go on with the best of each iteration until the budget is met."""
        standing = oracle.candidate({})
        while True:
            gone = oracle.removed(standing, budget.quantity)
            goal = min(gone + self.sparsity_per_iteration, budget.sparsity)
            oracle.forget()
            for fit in self._proposals(oracle, replace(budget, sparsity=goal), standing.ratios):
                oracle.score(fit.candidate)
            best = oracle.best
            if best is None or budget.is_met(oracle, best.candidate):
                return best
            standing = best.candidate
            oracle.move(best)

    def _proposals(self, oracle: Oracle, goal: Budget, gone: dict[str, float]) -> list[Fit]:
        """Each group alone, as far as it has to go; all alike where none gets there alone.

        Empty where none of them could be made.
        """
        alone = [fitted(oracle, goal, {name: 1.0}, gone) for name in oracle.filters]
        reaching = [fit for fit in alone if fit is not None]
        if reaching:
            return reaching
        together = fitted(oracle, goal, dict.fromkeys(oracle.filters, 1.0), gone)
        return [together] if together else []
