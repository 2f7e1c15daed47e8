"""Whole filters, the least important first, taken out of the model for good."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.pruning.coupling import (
    Filter,
    Tie,
    choose,
    closed,
    filter_mask,
    filter_norms,
    find_tie,
    width,
)
from compressors.pruning.dependency import ChannelGraph, Followed, as_edits
from compressors.pruning.labels import LabelGraph, attends
from compressors.pruning.level import smallest
from compressors.pruning.trial import why_not
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits

SHOWN = 6
"""Layers that a sentence names."""

NOT_TOGETHER = "the removals do not work together"

Rank = Callable[[str], Tensor | None]
"""Full name of a layer -> score of each filter, float64 [filters], the lowest go first; or None."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What to do with tied layers.

    Args:
        layers: Full names of those that were selected.
        removal: Takes their filters out; None where the network could not be followed.
        masking: Sets the filters to zero instead.
        obstacle: Why there is no removal.
        note: A sentence that holds if the removal is carried out.
    """

    layers: list[str]
    removal: Edits | None
    masking: Edits
    obstacle: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Tied:
    """Layers that lose filters together.

    Args:
        tie: All of them.
        own: Full names of those that were selected.
    """

    tie: Tie
    own: list[str]


@dataclass(kw_only=True)
class Survey:
    """What a network allows, however much is removed.

    Args:
        rank: Scores of a layer's filters.
        graph: Of the network; None where it cannot be followed.
        tied: Layers that can lose filters.
        blind: Full name of a selected layer whose filters can only be zeroed -> why.
        notes: Sentences about layers that stay whole.
    """

    rank: Rank
    graph: Followed | None = None
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
        """Rank, choose, and try every removal out; what cannot be removed is followed anew."""
        survey = self.survey(task)
        proposals, notes = self._proposals(task, survey)
        works = not _obstacle(task, [p.removal for p in proposals if p.removal is not None])
        done = works and all(p.removal is not None for p in proposals)
        if done or not isinstance(survey.graph, ChannelGraph):
            return settle(task, proposals, notes, works=works)
        anew = self._surveyed(task, survey.rank, [LabelGraph])
        other = settle(task, *self._proposals(task, anew))
        if other.edits.removed and not works:
            return other
        return min(settle(task, proposals, notes, works=works), other, key=_zeroed)

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
        faults = [n for n in task.selection.sparsity if n in task.heads]
        if faults:
            raise ConfigError(
                [f"{name} makes the logits: its filters are classes" for name in faults]
            )
        rank = cache(self.ranker(task))
        attention = attends(task.model, task.example_inputs)
        way: type[Followed] = LabelGraph if attention else ChannelGraph
        return self._surveyed(task, rank, list(dict.fromkeys([way, LabelGraph])))

    def _surveyed(self, task: Task, rank: Rank, ways: Sequence[type[Followed]]) -> Survey:
        """What the first way to follow the network finds that can follow it."""
        named = [task.prefix + name for name in task.selection.sparsity]
        selected = [name for name in named if rank(name) is not None]
        whole = [name for name in named if name not in selected]
        notes = [f"{names_of(task, whole)}: left whole ({self.unranked})"] if whole else []
        survey = Survey(rank=rank, notes=notes)
        graph, obstacle = _followed(task, ways)
        if graph is None:
            survey.blind |= dict.fromkeys(selected, obstacle)
            return survey
        survey.graph = graph
        seen: set[str] = set()
        for name in selected:
            if name in seen:
                continue
            try:
                tie = find_tie(graph, task.model, name)
            except IncompatibleModel as error:
                survey.blind[name] = str(error)
                continue
            seen.update(tie.layers)
            own = [name for name in tie.layers if name in selected]
            untouchable = self._untouchable(task, rank, tie)
            if untouchable:
                notes.append(f"{names_of(task, own)}: left whole, tied to {untouchable}")
            else:
                survey.tied.append(Tied(tie=tie, own=own))
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
        rank, graph, tie = survey.rank, survey.graph, tied.tie
        assert graph is not None, "there is a tie"
        sparsity = min(own.values())
        if any(value != sparsity for value in own.values()):
            notes.append(
                f"{names_of(task, own)} are tied: the lowest sparsity, {sparsity:g}, counts"
            )
        importance = _of_bundles(rank, tie.layers if self.dependency_aware else [*own][:1])
        filters = choose(tie, task.model, sparsity=sparsity, importance=importance)
        touched = closed(graph, tie, filters)
        if touched is None:
            tie = find_tie(graph, task.model, tie.layers[0], one_by_one=True)
            filters = choose(tie, task.model, sparsity=sparsity, importance=importance)
            touched = closed(graph, tie, filters)
        if touched is None:
            return _only_mask(task, rank, own, sparsity, "its filters hang together in circles")
        if not filters:
            count = width(task.model.get_submodule(next(iter(own))))
            notes.append(
                f"{names_of(task, own)}: {sparsity:g} of {count} filters rounds to nothing"
            )
            return None
        others = [name for name in tie.layers if name not in own]
        note = (
            f"{names_of(task, others)}: pruned too, tied to {names_of(task, own)}" if others else ""
        )
        masking = _masking(task, rank, own)
        return Proposal(layers=[*own], removal=as_edits(touched), masking=masking, note=note)


def _followed(task: Task, ways: Sequence[type[Followed]]) -> tuple[Followed | None, str]:
    """The network, followed in the first way that works; else why the first did not."""
    obstacles = []
    for way in ways:
        try:
            return way(task.model, task.example_inputs), ""
        except IncompatibleModel as error:
            obstacles.append(str(error))
    return None, obstacles[0]


def _zeroed(decision: Decision) -> int:
    """Weights that are zero where they could be gone."""
    return sum(int(mask.sum()) for mask in decision.edits.masked.values())


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
    masking = _masking(task, rank, dict.fromkeys(names, sparsity))
    return Proposal(layers=[*names], removal=None, masking=masking, obstacle=obstacle)


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
    edits = _union(p.masking if id(p) in obstacles else p.removal for p in proposals)
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
    failing = _failing_among(task, removals)
    rest = {key: removal for key, removal in removals.items() if key not in failing}
    if failing and _obstacle(task, rest.values()):
        failing |= dict.fromkeys(rest, NOT_TOGETHER)
    return failing


def _failing_among(task: Task, removals: Mapping[int, Edits]) -> dict[int, str]:
    """Which removals fail, looked for in halves of what fails together."""
    reason = _obstacle(task, removals.values())
    if not reason or len(removals) == 1:
        return dict.fromkeys(removals, reason) if reason else {}
    keys = list(removals)
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    parts = [_failing_among(task, {key: removals[key] for key in half}) for half in halves]
    return parts[0] | parts[1] or dict.fromkeys(removals, NOT_TOGETHER)


def _obstacle(task: Task, removals: Collection[Edits]) -> str:
    """What stands against removals together; empty where nothing does."""
    return why_not(task.model, _union(removals), task.example_inputs) if removals else ""


def _union(parts: Iterable[Edits | None]) -> Edits:
    """All edits of one numbering as one."""
    union = Edits()
    for part in parts:
        union = union if part is None else union.merge(part)
    return union


def names_of(task: Task, layers: Iterable[str]) -> str:
    """Layers as a sentence names them."""
    short = [name.removeprefix(task.prefix) for name in layers]
    more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
    return ", ".join(short[:SHOWN]) + more
