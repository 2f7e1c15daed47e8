"""What a network costs and scores when each layer loses a given share of its filters."""

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Decision, Task
from compressors.cost import cost_of, latency_ratio
from compressors.forecast import in_words
from compressors.pruning.coupling import width
from compressors.pruning.filters import FilterPruner, Survey, Tied, failing_of, names_of
from compressors.pruning.trial import union, why_not
from compressors.search.norms import estimate_norms
from core.errors import IncompatibleModel, unknown
from models.edits import Edits, enforce, perform

log = logging.getLogger(__name__)

Quantity = Literal["params", "macs", "latency"]
Ratios = Mapping[str, float]
"""Group -> fraction of the filters it had at first that is gone, in [0, 1)."""

Clock = Callable[[nn.Module, nn.Module, Tensor], float]
"""Model before, model after, one batch -> time of the second over that of the first."""

CLOCK: Clock = partial(latency_ratio, seconds=1.0)
"""Interleaved, for long enough to compare candidates by it."""

TRIAL = 0.5
"""Sparsity at which each group is tried out alone."""


@dataclass(kw_only=True, eq=False)
class Candidate:
    """A network with some filters gone; `Oracle.model` makes it.

    Args:
        ratios: What is really gone, after rounding and ties.
        edits: What makes it of the network the oracle stands on.
        params: Entries of its parameters.
        macs: Multiply-accumulates of one sample.
        latency: Time over that of the network at first; None as long as nobody asked.
        score: On the score part of the data; None as long as nobody asked.
        obstacle: Why it cannot be made; its costs are then those of the network at first.
    """

    ratios: dict[str, float]
    edits: Edits
    params: int
    macs: int
    latency: float | None = None
    score: float | None = None
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A candidate with the very model that was scored.

    Args:
        candidate: What it is.
        model: It, in eval mode.
        by_edits: Whether its edits alone make it of the network at first.
        score: Of the model.
        epochs: Of training since the network at first.
    """

    candidate: Candidate
    model: nn.Module
    by_edits: bool
    score: float
    epochs: int = 0

    def decision(self) -> Decision:
        """It, as what a compressor decides."""
        if self.by_edits:
            return Decision(edits=self.candidate.edits)
        return Decision(model=self.model)


class Oracle:
    """Costs of any candidate, cheaply; scores of few. What was asked before is remembered.

    Filters are chosen by a criterion and taken out for good. Layers that are tied form one group,
    called by the first of its selected layers. Groups that can lose no filters are left whole, and
    `notes` say why.

    Args:
        task: With the network, left as it is, and the resources.
        pruner: The criterion.
        name: Of the search, shown beside the progress.
        epochs: Of training before a candidate is scored.
        statistics_samples: Of the tuning data, on which the BatchNorm statistics of a candidate
            that is not trained are estimated anew before it is scored; 0 leaves them.
        maximize: Whether a higher score is better.
        max_evaluations: How many candidates may be scored; None for any number.
        clock: Compares latencies.

    Raises:
        IncompatibleModel: No group can lose filters; the text says why.
    """

    def __init__(
        self,
        task: Task,
        pruner: FilterPruner,
        *,
        name: str = "search",
        epochs: int = 0,
        statistics_samples: int = 0,
        maximize: bool = True,
        max_evaluations: int | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self.task, self.pruner, self.name = task, pruner, name
        self.epochs, self.maximize, self.max_evaluations = epochs, maximize, max_evaluations
        self.statistics_samples, self.clock = statistics_samples, clock
        self.evaluations = 0
        self.filters: dict[str, int] = {}
        """Group -> filters that its first layer has at first."""
        self.full = cost_of(task.model, task.example_inputs)
        self.notes: list[str] = []
        self._failed: dict[tuple[Edits, str], None] = {}
        self._latencies: dict[tuple[float, ...], float] = {}
        self._progressed: Callable[[float], None] = lambda _: None
        self._place(task.model, epochs=0)
        self._drop_immovable()
        self.filters |= {name: self._width(name) for name in self._tied}

    @property
    def groups(self) -> dict[str, list[str]]:
        """Group -> all selected layers that lose filters with it."""
        prefix = self.task.prefix
        return {
            name: [n.removeprefix(prefix) for n in tied.own] for name, tied in self._tied.items()
        }

    @property
    def failed(self) -> Counter[str]:
        """Why candidates could not be made -> how many of them; each counts once."""
        return Counter(why for _, why in self._failed)

    @property
    def is_exhausted(self) -> bool:
        """Whether no further candidate may be scored."""
        return self.max_evaluations is not None and self.evaluations >= self.max_evaluations

    def candidate(self, ratios: Ratios) -> Candidate:
        """The network with these shares gone and what it costs; it is not scored.

        Args:
            ratios: Left out: 0. What is gone already stays gone.
        """
        for name in ratios:
            if name not in self.filters:
                raise LookupError(unknown("group", name, self.filters))
        edits = union(self._removal(name, ratios.get(name, 0.0)) for name in self._tied)
        if edits not in self._candidates:
            self._candidates[edits] = self._costed(edits)
        return self._candidates[edits]

    def removed(self, candidate: Candidate, quantity: Quantity) -> float:
        """Fraction of a quantity that is gone, of what the network at first has; in [0, 1).

        Nothing is gone from a candidate that cannot be made.
        """
        if candidate.obstacle:
            return 0.0
        if quantity == "params":
            return 1 - candidate.params / self.full.params
        if quantity == "macs":
            return 1 - candidate.macs / self.full.macs
        return 1 - self._latency(candidate)

    def model(self, candidate: Candidate) -> nn.Module:
        """A fresh model without the candidate's filters, not trained since; in eval mode."""
        model = copy.deepcopy(self._origin)
        perform(model, candidate.edits)
        return model

    def score(self, candidate: Candidate) -> float | None:
        """Train the candidate if wanted, score it, and count that; a second time it is known.

        None where it cannot be made: `failed` tells why.
        """
        if candidate.score is None and not candidate.obstacle:
            assert not self.is_exhausted, "ask `is_exhausted` before"
            obstacle = why_not(self._origin, candidate.edits, self.task.example_inputs)
            if obstacle:
                self._fail(candidate, obstacle)
            else:
                candidate.score = self._evaluated(candidate)
        return candidate.score

    def ask(self, model: nn.Module) -> float:
        """Score of any model as it is, counted and not remembered."""
        started = time.perf_counter()
        score = float(self.task.given.score(model))
        if math.isnan(score):
            raise ValueError("expected a number as score, got nan")
        self.evaluations += 1
        self._progressed(time.perf_counter() - started)
        return score

    def is_better(self, score: float, other: float) -> bool:
        """Whether one score is really better than another."""
        return score > other if self.maximize else score < other

    def move(self, scored: Scored) -> None:
        """Stand on another model from now on: candidates are made of it, and `best` is nobody.

        A group that can lose no more filters there stays as it is, and `notes` say why.

        Args:
            scored: What this oracle scored; it is not changed.
        """
        before = self._tied
        self._place(scored.model, scored.epochs)
        for name in (name for name in before if name not in self._tied):
            why = self._survey.blind.get(self.task.prefix + name, "it cannot be followed any more")
            self.notes.append(f"{name}: loses no more filters, because {why}")

    def forget(self) -> None:
        """Forget all scores: from now on, `best` is the best of what comes."""
        self._candidates: dict[Edits, Candidate] = {}
        self.best: Scored | None = None

    @contextmanager
    def watched(self, total: int, *, untrained: int = 0) -> Iterator[None]:
        """Show the progress where somebody watches; after the first score say how long it takes.

        Args:
            total: Candidates that will be scored at most.
            untrained: Those of them that are scored without the training of the others.
        """
        console, started, done = Console(stderr=True), time.perf_counter(), 0
        total = total if self.max_evaluations is None else min(total, self.max_evaluations)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(self.name, total=total)

            def progressed(scoring: float) -> None:
                nonlocal done
                done += 1
                if done == 1:
                    trained = (time.perf_counter() - started) * (total - untrained)
                    seconds = trained + scoring * untrained
                    about = f"about {in_words(seconds)} altogether"
                    log.info("%s: at most %d candidates, %s", self.name, total, about)
                progress.advance(bar)

            self._progressed = progressed
            try:
                yield
            finally:
                self._progressed = lambda _: None

    def _latency(self, candidate: Candidate) -> float:
        """Measured once for equal ratios, so that what met a budget meets it again."""
        key = tuple(candidate.ratios.values())
        if key not in self._latencies:
            model = self.model(candidate)
            self._latencies[key] = self.clock(self.task.model, model, self.task.example_inputs)
        candidate.latency = self._latencies[key]
        return candidate.latency

    def _place(self, model: nn.Module, epochs: int) -> None:
        """Look at the network all candidates are made of, and that was trained so long."""
        self._origin, self._trained = model, epochs
        self._task = replace(self.task, model=model)
        self._survey: Survey = self.pruner.survey(self._task)
        tied = {one.own[0].removeprefix(self.task.prefix): one for one in self._survey.tied}
        known = self.filters or tied  # what was left whole at first stays whole
        self._tied: dict[str, Tied] = {n: one for n, one in tied.items() if n in known}
        self._removals: dict[tuple[str, int], Edits] = {}
        self.forget()

    def _drop_immovable(self) -> None:
        """Try every group alone; what does not work is left whole, with a sentence."""
        reasons = dict(self._survey.blind)
        self.notes += self._survey.notes
        trials = {}
        for name, tied in self._tied.items():
            amounts = dict.fromkeys(tied.own, TRIAL)
            trials[name] = self.pruner.propose(self._task, self._survey, tied, amounts, self.notes)
        removals = {id(t): t.removal for t in trials.values() if t is not None and t.removal}
        failing = failing_of(self._task, removals)
        for name, trial in trials.items():
            obstacle = failing.get(id(trial), "" if trial is None else trial.obstacle)
            reasons |= dict.fromkeys(self._tied[name].own, obstacle) if obstacle else {}
            if trial is None or obstacle:
                del self._tied[name]
            elif trial.note:
                self.notes.append(trial.note)
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name, why in reasons.items() if why == reason]
            self.notes.append(f"{names_of(self.task, names)}: left whole, because {reason}")
        if not self._tied:
            raise IncompatibleModel(
                f"{self.name}: no layer can lose filters. {'; '.join(self.notes)}"
            )

    def _removal(self, name: str, ratio: float) -> Edits:
        """What takes a group from what it has now to what the ratio leaves."""
        if not 0 <= ratio < 1:
            raise ValueError(f"a ratio is the fraction removed, in [0, 1), got {ratio} for {name}")
        full, left = self.filters[name], self._width(name)
        count = max(count_removed(full, ratio) - (full - left), 0)
        if (name, count) not in self._removals:
            self._removals[name, count] = self._proposed(name, count / left)
        return self._removals[name, count]

    def _proposed(self, name: str, share: float) -> Edits:
        tied = self._tied[name]
        amounts = dict.fromkeys(tied.own, share)
        proposal = self.pruner.propose(self._task, self._survey, tied, amounts, [])
        return proposal.removal or Edits() if proposal else Edits()

    def _width(self, name: str, model: nn.Module | None = None) -> int:
        network = self._origin if model is None else model
        return width(network.get_submodule(self.task.prefix + name))

    def _costed(self, edits: Edits) -> Candidate:
        tensors = (*self._origin.parameters(), *self._origin.buffers())
        model = copy.deepcopy(self._origin, {id(tensor): tensor for tensor in tensors})  # shared
        try:
            perform(model, edits)
            cost = cost_of(model, self.task.example_inputs)
        except Exception:
            obstacle = why_not(self._origin, edits, self.task.example_inputs)
            if not obstacle:
                raise
            return self._fail(self._without_costs(edits), obstacle)
        gone = {name: 1 - self._width(name, model) / full for name, full in self.filters.items()}
        return Candidate(ratios=gone, edits=edits, params=cost.params, macs=cost.macs)

    def _without_costs(self, edits: Edits) -> Candidate:
        return Candidate(ratios={}, edits=edits, params=self.full.params, macs=self.full.macs)

    def _fail(self, candidate: Candidate, obstacle: str) -> Candidate:
        candidate.obstacle = obstacle
        self._failed[candidate.edits, obstacle] = None
        return candidate

    def _evaluated(self, candidate: Candidate) -> float:
        """Score of a candidate that can be made and was not scored yet."""
        model, anew = self.model(candidate), False
        if self.epochs:
            self.task.given.train(
                model, epochs=self.epochs, first_epoch=self._trained, after_step=enforce
            )
        elif not candidate.edits.is_empty:
            anew = self.renew(model)
        score = self.ask(model)
        if self.best is None or self.is_better(score, self.best.score):
            epochs = self._trained + self.epochs
            by_edits = self._origin is self.task.model and not epochs and not anew
            self.best = Scored(
                candidate=candidate, model=model, by_edits=by_edits, score=score, epochs=epochs
            )
        return score

    def renew(self, model: nn.Module) -> bool:
        """Estimate the BatchNorm statistics of an untrained network anew; whether any were.

        A note tells it once.

        Args:
            model: That lost filters, in eval mode; changed in place.
        """
        samples = self.statistics_samples
        if not samples or not estimate_norms(model, self.task.given.batches(samples)):
            return False
        note = (
            "BatchNorm statistics of untrained candidates were estimated anew, on up to "
            f"{samples} samples of the tuning data"
        )
        self.notes += [note] * (note not in self.notes)
        return True
