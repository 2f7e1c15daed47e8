"""Layers lose what they tolerate: each is scanned alone, then all lose in proportion."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import nn

from compressors.analysis.sensitivity import SPARSITIES, Stop, sensitivity_analysis
from compressors.options import positive
from compressors.search.base import CRITERIA, Search, failures
from compressors.search.budget import ROUNDING, Budget, Fit, ceil_of, fitted
from compressors.search.oracle import Oracle, Quantity, Scored
from core.errors import ConfigError, IncompatibleModel

LEAST = 0.01
"""What a layer that tolerates nothing counts as, so that every direction leads to the budget."""


class Sensitivity(Search):
    """Removes a little at a time, most from the layers that lose least by it, and trains between.

    Before the first iteration, or before each, every layer alone (with those tied to it) is pruned
    at growing sparsities until the score has fallen by the threshold; what it tolerated is its
    weight. The iterations end at the target, or before the score falls by the threshold.

    Args:
        budget: As in Search.
        sparsity_per_iter: Fraction of the quantity, of what it was at first, in (0, 1).
        acc_drop_threshold: Of the score, as a fraction: of each layer alone, and of what comes out.
        scans: first, or each: before which iterations the layers are scanned.
        scanned_sparsities: At which they are.
        **options: Those of Search; `epochs` are trained after each iteration.

    Reference:
        Han et al., Learning both Weights and Connections, NeurIPS 2015, section 3.3: a threshold a
        layer from its sensitivity; here for filters and with a budget.
    """

    efforts: ClassVar = {
        "quick": {"epochs": 1, "scans": "first"},
        "paper": {"epochs": 10, "scans": "each"},
    }

    def __init__(
        self,
        *,
        budget: Quantity = "params",
        sparsity_per_iter: float = 0.1,
        acc_drop_threshold: float = 0.05,
        scans: str | None = None,
        scanned_sparsities: Sequence[float] = SPARSITIES,
        **options: Any,
    ) -> None:
        super().__init__(budget=budget, **options)
        faults = positive(sparsity_per_iter, "sparsity_per_iter", below=1)
        faults += positive(acc_drop_threshold, "acc_drop_threshold")
        if scans not in (None, "first", "each"):
            faults.append(f"compressor.scans is first or each, got {scans!r}")
        if self.max_evaluations is not None:
            faults.append("compressor.max_evaluations: the iterations say how many there are")
        if faults:
            raise ConfigError(faults)
        self.sparsity_per_iter, self.acc_drop_threshold = sparsity_per_iter, acc_drop_threshold
        self.scans: str = scans or self.efforts[self.effort]["scans"]
        self.scanned_sparsities = tuple(scanned_sparsities)

    def options(self) -> dict[str, Any]:
        """Those of every search, the steps and the scan."""
        return {
            **super().options(),
            "sparsity_per_iter": self.sparsity_per_iter,
            "acc_drop_threshold": self.acc_drop_threshold,
            "scans": self.scans,
            "scanned_sparsities": list(self.scanned_sparsities),
        }

    def expected(self, oracle: Oracle) -> int:
        """All iterations, with scans that never stop early."""
        return 1 + bool(self.epochs) + self._iterations(oracle) + self.untrained(oracle)

    def untrained(self, oracle: Oracle) -> int:
        """The scans."""
        scan = 1 + len(oracle.filters) * len(self.scanned_sparsities)
        return scan * (self._iterations(oracle) if self.scans == "each" else 1)

    def _iterations(self, oracle: Oracle) -> int:
        (sparsity,) = set(oracle.task.selection.sparsity.values())
        return ceil_of(sparsity / self.sparsity_per_iter)

    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Scan, prune, train, until the budget is met or the score has fallen too far."""
        baseline, tolerated = self._tolerated(oracle, oracle.task.model)
        standing, kept = oracle.candidate({}), None
        while True:
            gone = oracle.removed(standing, budget.quantity)
            goal = min(gone + self.sparsity_per_iter, budget.sparsity)
            speed = {n: tolerated[n] * (1 - gone) for n, gone in standing.ratios.items()}
            oracle.forget()
            fit = fitted(oracle, replace(budget, sparsity=goal), speed, standing.ratios)
            score = None if fit is None else oracle.score(fit.candidate)
            obstacle = self._obstacle(oracle, baseline, score)
            if obstacle:
                return self._ended(oracle, kept, gone, obstacle)
            kept = cast(Scored, oracle.best)
            standing = kept.candidate
            if budget.is_met(oracle, standing):
                return kept
            oracle.move(kept)
            if self.scans == "each":
                _, tolerated = self._tolerated(oracle, kept.model)

    def _obstacle(self, oracle: Oracle, baseline: float, score: float | None) -> str:
        """What stands against the next iteration; empty where nothing does."""
        if score is None:
            return "a network without the next share cannot be made"
        drop = baseline - score if oracle.maximize else score - baseline
        if drop <= self.acc_drop_threshold + ROUNDING:
            return ""
        return (
            f"the next {self.sparsity_per_iter:g} of the {self.budget} takes the score from "
            f"{baseline:.4f} to {score:.4f}, further than acc_drop_threshold="
            f"{self.acc_drop_threshold:g}"
        )

    def _ended(self, oracle: Oracle, kept: Scored | None, gone: float, obstacle: str) -> Scored:
        """What is kept before an iteration that cannot be taken."""
        if kept is None:
            advice = (
                "lower compressor.sparsity_per_iter, or raise compressor.acc_drop_threshold or "
                "compressor.epochs"
            )
            sentences = [f"{self.name} changes nothing: {obstacle}; {advice}", *failures(oracle)]
            raise IncompatibleModel(". ".join(sentences))
        oracle.notes.append(f"ended with {gone:.3f} of the {self.budget} removed: {obstacle}")
        return kept

    def _tolerated(self, oracle: Oracle, model: nn.Module) -> tuple[float, dict[str, float]]:
        """Score, and group -> largest sparsity up to which that falls within the threshold."""
        sign = 1 if oracle.maximize else -1

        def score(network: nn.Module) -> float:
            oracle.renew(network)
            return sign * oracle.ask(network)

        scan = sensitivity_analysis(
            model,
            oracle.task.example_inputs,
            score,
            criterion=CRITERIA[self.base_algo],
            sparsities=self.scanned_sparsities,
            layers=list(oracle.filters),
            stop=Stop(drop=self.acc_drop_threshold),
            resources=oracle.task.given,
        )
        tolerated = scan.tolerated(drop=self.acc_drop_threshold)
        weights = {name: max(tolerated.get(name, 0.0), LEAST) for name in oracle.filters}
        return sign * scan.baseline, weights
