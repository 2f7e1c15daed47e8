"""Whole filters, the least important first, taken out of the model for good."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, ClassVar

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.pruning.coupling import (
    Filter,
    Tie,
    choose,
    filter_mask,
    filter_norms,
    take,
    width,
)
from compressors.pruning.dependency import Followed, as_edits
from compressors.pruning.level import smallest
from compressors.pruning.ties import CIRCLES, find_ties
from compressors.pruning.trial import failing_of as failing_on
from compressors.pruning.trial import try_out, union
from core.errors import ConfigError
from models.edits import Edits

SHOWN = 6
"""Layers that a sentence names."""

Rank = Callable[[str], Tensor | None]
"""Full name of a layer -> score of each filter, float64 [filters], the lowest go first; or None."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What to do with tied layers.

    Args:
        layers: Full names of those that were selected.
        removal: Takes their filters out; None where the network could not be followed.
        masking: Makes what sets the filters to zero instead.
        obstacle: Why there is no removal.
        note: A sentence that holds if the removal is carried out.
    """

    layers: list[str]
    removal: Edits | None
    masking: Callable[[], Edits]
    obstacle: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tied:
    """Layers that lose filters together.

    Args:
        tie: All of them.
        graph: In which they were found.
        own: Full names of those that were selected.
    """

    tie: Tie
    graph: Followed
    own: list[str]


@dataclass(kw_only=True)
class Survey:
    """What a network allows, however much is removed.

    Args:
        rank: Scores of a layer's filters.
        tied: Layers that can lose filters.
        blind: Full name of a selected layer whose filters can only be zeroed -> why.
        notes: Sentences about layers that stay whole.
    """

    rank: Rank
    tied: list[Tied] = field(default_factory=list)
    blind: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class FilterPruner(Compressor):
    """Ranks the filters of each layer and removes floor(sparsity n) of them; at least one stays.

    Layers tied by additions lose the same filters, also layers that were not selected: a sentence
    names them. A tie with a layer that is excluded or cannot be ranked stays whole. Where the
    network cannot be followed, the filters of the selected layers are set to zero, and a sentence
    names what is in the way.

    Args:
        dependency_aware: Rank tied filters by the sum over all layers of the tie; False ranks by
            the first selected layer alone.
        **selection: Those of Compressor.
    """

    treatable: ClassVar = (
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
    )
    default_types: ClassVar = treatable[:-1]
    unranked: str = "it has no score"

    def __init__(self, *, dependency_aware: bool = True, **selection: Any) -> None:
        super().__init__(**selection)
        if not isinstance(dependency_aware, bool):
            raise ConfigError(
                [f"compressor.dependency_aware is true or false, got {dependency_aware!r}"]
            )
        self.dependency_aware = dependency_aware

    @abstractmethod
    def ranker(self, task: Task) -> Rank:
        """How filters are ranked; called once, so this is where data is looked at.

        A layer that gives None stays whole; `unranked` says why that is.
        """

    def options(self) -> dict[str, Any]:
        """How ties are ranked."""
        return {"dependency_aware": self.dependency_aware}

    def decide(self, task: Task) -> Decision:
        """Rank, choose, and try the removal out: at first all of it, as the first graph has it."""
        rank = self._rank(task)
        hoped = self._survey(task, rank, tried=False)
        proposals, notes = self._proposals(task, hoped)
        if len(proposals) == len(hoped.tied) and all(p.removal for p in proposals):
            found = _as_a_whole(task, proposals, notes)
            if found is not None:
                return found
        proposals, notes = self._proposals(task, self._survey(task, rank))
        return _as_a_whole(task, proposals, notes) or settle(task, proposals, notes)

    def _proposals(self, task: Task, survey: Survey) -> tuple[list[Proposal], list[str]]:
        """What the survey allows, and sentences about it."""
        sparsity = task.selection.sparsity
        amounts = {task.prefix + name: value for name, value in sparsity.items()}
        notes = list(survey.notes)
        proposals = [
            _only_mask(task, survey.rank, [name], amounts[name], why)
            for name, why in survey.blind.items()
        ]
        for tied in survey.tied:
            own = {name: amounts[name] for name in tied.own}
            proposal = self.propose(task, survey, tied, own, notes)
            proposals += [proposal] if proposal else []
        return proposals, notes

    def survey(self, task: Task) -> Survey:
        """Rank filters and find what is tied, before it is known how many go."""
        return self._survey(task, self._rank(task))

    def _rank(self, task: Task) -> Rank:
        faults = [n for n in task.selection.sparsity if n in task.heads]
        if faults:
            raise ConfigError(
                [f"{name} makes the logits: its filters are classes" for name in faults]
            )
        return cache(self.ranker(task))

    def _survey(self, task: Task, rank: Rank, *, tried: bool = True) -> Survey:
        """Find what is tied; `tried` is that of `find_ties`."""
        named = [task.prefix + name for name in task.selection.sparsity]
        selected = [name for name in named if rank(name) is not None]
        whole = [name for name in named if name not in selected]
        notes = [f"{names_of(task, whole)}: left whole ({self.unranked})"] if whole else []
        ties = find_ties(task.model, task.example_inputs, selected, look=task.look, tried=tried)
        survey = Survey(rank=rank, blind=ties.unknown, notes=notes)
        for one in ties.found:
            own = [name for name in one.tie.layers if name in selected]
            untouchable = self._untouchable(task, rank, one.tie)
            if untouchable:
                notes.append(f"{names_of(task, own)}: left whole, tied to {untouchable}")
            else:
                survey.tied.append(Tied(tie=one.tie, graph=one.graph, own=own))
        return survey

    def _untouchable(self, task: Task, rank: Rank, tie: Tie) -> str:
        """A layer of the tie that has to keep its filters, and why; empty where there is none."""
        for name in tie.layers:
            short = name.removeprefix(task.prefix)
            if short in task.heads:
                return f"{short}, which makes the logits"
            if short in task.selection.excluded:
                return f"{short}, which is excluded"
            if rank(name) is None:
                return f"{short} ({self.unranked})"
        return ""

    def propose(
        self,
        task: Task,
        survey: Survey,
        tied: Tied,
        own: Mapping[str, float],
        notes: list[str],
    ) -> Proposal | None:
        """Choose among tied filters; None, with a sentence, where all of them stay.

        Args:
            task: With the network that was surveyed.
            survey: Of this pruner.
            tied: One of the survey.
            own: Full name of each selected layer of the tie -> fraction to remove.
            notes: Receives sentences.
        """
        rank, tie = survey.rank, tied.tie
        sparsity = min(own.values())
        if any(value != sparsity for value in own.values()):
            notes.append(
                f"{names_of(task, own)} are tied: the lowest sparsity, {sparsity:g}, counts"
            )
        importance = _of_bundles(rank, tie.layers if self.dependency_aware else [*own][:1])
        taken = take(
            tied.graph,
            task.model,
            tie,
            lambda one: choose(one, task.model, sparsity=sparsity, importance=importance),
        )
        if taken.touched is None:
            return _only_mask(task, rank, own, sparsity, CIRCLES)
        if not taken.filters:
            count = width(task.model.get_submodule(next(iter(own))))
            too_few = f"{names_of(task, own)}: {sparsity:g} of {count} filters rounds to nothing"
            whole = f"{names_of(task, own)}: left whole, because more of its filters go together"
            notes.append(whole if count_removed(count, sparsity) else too_few)
            return None
        others = [name for name in tie.layers if name not in own]
        note = (
            f"{names_of(task, others)}: pruned too, tied to {names_of(task, own)}" if others else ""
        )
        masking = partial(_masking, task, rank, own)
        return Proposal(layers=[*own], removal=as_edits(taken.touched), masking=masking, note=note)


def by_weights(model: nn.Module, score: Callable[[nn.Module], Tensor]) -> Rank:
    """Ranks every layer by a function of the layer itself."""
    return lambda name: score(model.get_submodule(name))


class L1Filter(FilterPruner):
    """Removes the filters with the least sum of magnitudes.

    Reference:
        Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.1. There, the
        layers of a residual sum follow the shortcut's ranking; here the sum over the tie decides.
    """

    def ranker(self, task: Task) -> Rank:
        """Sum of the magnitudes of each filter's weights."""
        return by_weights(task.model, filter_norms)


def _of_bundles(rank: Rank, layers: Iterable[str]) -> Callable[[list[Filter]], float]:
    """Importance of filters that go together: the sum over these layers."""
    scores = {name: _scores(rank, name).tolist() for name in layers}

    def importance(bundle: list[Filter]) -> float:
        return sum(scores[name][index] for name, index in bundle if name in scores)

    return importance


def _scores(rank: Rank, layer: str) -> Tensor:
    """Scores of a layer that can be ranked."""
    scores = rank(layer)
    assert scores is not None
    return scores


def _masking(task: Task, rank: Rank, sparsity: Mapping[str, float]) -> Edits:
    """The same number of filters of each layer, zeroed; no layer has to agree with another."""
    masked: dict[str, Tensor] = {}
    for name, value in sparsity.items():
        scores = _scores(rank, name)
        gone = smallest(scores, count=count_removed(len(scores), value))
        mask = filter_mask(task.model.get_submodule(name), gone)
        masked |= {f"{name}.{part}": entries for part, entries in mask.items()}
    return Edits(masked=masked)


def _only_mask(
    task: Task, rank: Rank, names: Iterable[str], sparsity: float, obstacle: str
) -> Proposal:
    masking = partial(_masking, task, rank, dict.fromkeys(names, sparsity))
    return Proposal(layers=[*names], removal=None, masking=masking, obstacle=obstacle)


def _as_a_whole(task: Task, proposals: Sequence[Proposal], notes: Sequence[str]) -> Decision | None:
    """Every removal that is proposed; None where they do not work together, or there is none."""
    removal = union(p.removal for p in proposals)
    if removal.is_empty:
        return None
    trial = try_out(task.model, removal, task.example_inputs)
    if trial.fault:
        return None
    decision = settle(task, proposals, notes, works=True)
    if decision.edits.masked:  # the whole of it has not been compared
        return decision
    told = [trial.note] if trial.note else []
    return replace(decision, notes=[*decision.notes, *told], edited=trial.edited)


def settle(
    task: Task, proposals: Sequence[Proposal], notes: Sequence[str], *, works: bool = False
) -> Decision:
    """Take the removals that work on this network, and mask in the place of the others.

    Args:
        task: With the network.
        proposals: Decided on one another's side.
        notes: Sentences so far.
        works: Whether all removals together have been tried out, and work.
    """
    obstacles = {id(p): p.obstacle for p in proposals if p.removal is None}
    removals = {id(p): p.removal for p in proposals if p.removal is not None}
    obstacles |= {} if works else failing_of(task, removals)
    notes = list(notes)
    edits = union(p.masking() if id(p) in obstacles else p.removal for p in proposals)
    notes += [p.note for p in proposals if p.note and id(p) not in obstacles]
    for reason in dict.fromkeys(obstacles.values()):
        names = [n for p in proposals if obstacles.get(id(p)) == reason for n in p.layers]
        notes.append(
            f"{names_of(task, names)}: filters are zero instead of removed, so size and latency "
            f"stay, because {reason}"
        )
    return Decision(edits=edits, notes=notes)


def failing_of(task: Task, removals: Mapping[int, Edits]) -> dict[int, str]:
    """Which removals do not work on this network, each with the reason."""
    return failing_on(task.model, removals, task.example_inputs)


def names_of(task: Task, layers: Iterable[str]) -> str:
    """Layers as a sentence names them."""
    short = [name.removeprefix(task.prefix) for name in layers]
    more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
    return ", ".join(short[:SHOWN]) + more
