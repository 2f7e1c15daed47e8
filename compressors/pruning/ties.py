"""Which layers lose filters together: each in the first graph in which they really can lose some.

The dependency graph comes first, unless tokens attend. Where it fails, or what it ties does not
compute what the masked network computes, filters are numbered; first so that the same channels go
in each part where channels are divided, then so that whole parts go.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from compressors.pruning.coupling import Filter, Tie, choose, find_tie, take
from compressors.pruning.dependency import ChannelGraph, Followed, as_edits
from compressors.pruning.labels import LabelGraph
from compressors.pruning.trial import failing_of
from compressors.tracing import Look
from core.errors import IncompatibleModel
from models.edits import Edits

TRIALS = (0.25, 0.5)
"""Sparsities at which ties are tried out: the first at which any filter goes."""

SPARED = 4
"""One filter in so many stays in a trial where possible, so that no part loses all it has."""

CIRCLES = "its filters hang together in circles"
ALL_OR_NONE = "its filters go together or not at all"


@dataclass(frozen=True, kw_only=True, eq=False)
class Followable:
    """Layers that are tied.

    Args:
        tie: All of them.
        graph: In which they were found.
    """

    tie: Tie
    graph: Followed


@dataclass(frozen=True, kw_only=True)
class Ties:
    """What is tied in a network.

    Args:
        found: In the order of the layers that were asked for; no layer is in two of them. Of those
            whose filters go together or not at all, none can go.
        unknown: Layer whose filters cannot go -> why.
    """

    found: list[Followable]
    unknown: dict[str, str]


def find_ties(
    model: nn.Module,
    example_inputs: Tensor,
    layers: Iterable[str],
    *,
    look: Look,
    tried: bool = True,
) -> Ties:
    """Everything tied to the filters of some layers.

    Args:
        model: In eval mode; left as it is.
        example_inputs: One batch, shape [N, K, H, W].
        layers: Full names.
        look: At the model; what is tied to its heads is not tried out.
        tried: Whether a removal from each tie is tried out, and the next way taken where it fails;
            else the first way is believed.
    """
    search = _Search(model, example_inputs, list(layers), look.heads)
    for way in _ways(look) if tried else _ways(look)[:1]:
        if not search.left:
            break
        try:
            graph = way(model, example_inputs)
        except IncompatibleModel as error:
            search.named = dict.fromkeys(search.left, str(error)) | search.named
        else:
            search.look_in(graph, tried=tried)
    search.keep_coarse()
    place = {name: index for index, name in enumerate(search.layers)}
    found = sorted(search.found, key=lambda one: place[one.tie.layers[0]])
    reasons = search.tried | search.named
    return Ties(found=found, unknown={name: reasons[name] for name in search.left})


def _ways(look: Look) -> list[Callable[..., Followed]]:
    """Ways to follow a network, the first that is to be tried first."""
    numbered: list[Callable[..., Followed]] = [LabelGraph, partial(LabelGraph, whole=True)]
    return numbered if look.attends else [ChannelGraph, *numbered]


@dataclass
class _Search:
    """What was found so far, and why the rest was not: named by a graph, or told by a trial."""

    model: nn.Module
    example_inputs: Tensor
    layers: list[str]
    heads: Collection[str]
    found: list[Followable] = field(default_factory=list)
    coarse: list[Followable] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    tried: dict[str, str] = field(default_factory=dict)

    @property
    def covered(self) -> set[str]:
        """Layers of what was found."""
        return {name for one in self.found for name in one.tie.layers}

    @property
    def left(self) -> list[str]:
        """Layers that were asked for and not found."""
        covered = self.covered
        return [name for name in self.layers if name not in covered]

    def look_in(self, graph: Followed, *, tried: bool) -> None:
        """Find what is left in one more graph, as far as it can lose filters."""
        ties = self._tied_in(graph, believed=not tried)
        failing = self._failing(graph, ties) if tried else {}
        for tie in ties:
            if id(tie) in failing:
                self.tried = dict.fromkeys(tie.layers, failing[id(tie)]) | self.tried
            else:
                self.found.append(Followable(tie=tie, graph=graph))

    def _tied_in(self, graph: Followed, *, believed: bool) -> list[Tie]:
        """What a graph ties of what is left; `believed` is that of `find_tie`."""
        ties: list[Tie] = []
        for name in self.left:
            if any(name in tie.layers for tie in ties):
                continue
            try:
                ties.append(find_tie(graph, self.model, name, believed=believed))
            except IncompatibleModel as error:
                self.named.setdefault(name, str(error))
        return ties

    def _failing(self, graph: Followed, ties: Iterable[Tie]) -> dict[int, str]:
        """Which of them cannot lose filters in this way -> why."""
        removals: dict[int, Edits] = {}
        failing: dict[int, str] = {}
        covered = self.covered
        for tie in ties:
            known = next((one for one in tie.layers if one in covered), "")
            if known:
                failing[id(tie)] = _tied_to(known)
            elif not any(head in tie.layers for head in self.heads):
                removal = _uneven(graph, self.model, tie)
                if removal is None:
                    failing[id(tie)] = CIRCLES
                elif not removal.removed:
                    failing[id(tie)] = ALL_OR_NONE
                    self.coarse.append(Followable(tie=tie, graph=graph))
                else:
                    removals[id(tie)] = removal
        return failing | failing_of(self.model, removals, self.example_inputs)

    def keep_coarse(self) -> None:
        """Where filters go together or not at all in the first graph, and in others do not go."""
        for one in self.coarse:
            if any(self.tried[name] != ALL_OR_NONE for name in one.tie.layers):
                continue
            known = next((name for name in one.tie.layers if name in self.covered), "")
            if known:
                self.tried |= dict.fromkeys(one.tie.layers, _tied_to(known))
            else:
                self.found.append(one)


def _tied_to(known: str) -> str:
    return f"it is tied to {known}, which was found without it"


def _uneven(graph: Followed, model: nn.Module, tie: Tie) -> Edits | None:
    """Some filters of a tie as a removal, most of those in front; None if more would go.

    Parts that have to stay equal, which a graph may have missed, lose differently many.
    """
    edits = Edits()
    for sparsity in TRIALS:
        pick = partial(choose, model=model, sparsity=sparsity, importance=_is_spared)
        taken = take(graph, model, tie, pick)
        if taken.touched is None:
            return None
        edits = as_edits(taken.touched)
        if taken.filters:
            break
    return edits


def _is_spared(bundle: list[Filter]) -> bool:
    """Whether filters go after the others; equals go in their order."""
    return bundle[0][1] % SPARED == 0
