"""Which layers lose filters together: each in the first graph in which they really can lose some.

The dependency graph comes first, unless tokens attend. Where it fails, or what it ties does not
compute what the masked network computes, filters are numbered; first so that the same channels go
in each part where channels are divided, then so that whole parts go.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.pruning.coupling import Tie, choose, filter_norms, find_tie, take, width
from compressors.pruning.dependency import ChannelGraph, Followed, as_edits
from compressors.pruning.labels import LabelGraph, attends
from compressors.pruning.trial import failing_of
from core.errors import IncompatibleModel
from models.edits import Edits

TRIAL = 0.5
"""Sparsity at which ties are tried out."""

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
        found: In the order of the layers that were asked for; no layer is in two of them.
        unknown: Layer whose filters cannot go -> why.
    """

    found: list[Followable]
    unknown: dict[str, str]


def find_ties(
    model: nn.Module, example_inputs: Tensor, layers: Iterable[str], *, heads: Collection[str]
) -> Ties:
    """Everything tied to the filters of some layers.

    Args:
        model: In eval mode; left as it is.
        example_inputs: One batch, shape [N, K, H, W].
        layers: Full names.
        heads: Full names of the layers that make the logits; what is tied to them is not tried out.
    """
    search = _Search(model, example_inputs, list(layers), heads)
    for way in _ways(model, example_inputs) if search.left else ():
        if not search.left:
            break
        try:
            graph = way(model, example_inputs)
        except IncompatibleModel as error:
            search.named = dict.fromkeys(search.left, str(error)) | search.named
        else:
            search.look_in(graph)
    place = {name: index for index, name in enumerate(search.layers)}
    found = sorted(search.found, key=lambda one: place[one.tie.layers[0]])
    reasons = search.tried | search.named
    return Ties(found=found, unknown={name: reasons[name] for name in search.left})


def _ways(model: nn.Module, example_inputs: Tensor) -> list[Callable[..., Followed]]:
    """Ways to follow a network, the first that is to be tried first."""
    numbered: list[Callable[..., Followed]] = [LabelGraph, partial(LabelGraph, whole=True)]
    return numbered if attends(model, example_inputs) else [ChannelGraph, *numbered]


@dataclass
class _Search:
    """What was found so far, and why the rest was not: named by a graph, or told by a trial."""

    model: nn.Module
    example_inputs: Tensor
    layers: list[str]
    heads: Collection[str]
    found: list[Followable] = field(default_factory=list)
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

    def look_in(self, graph: Followed) -> None:
        """Find what is left in one more graph, as far as it can lose filters."""
        ties: list[Tie] = []
        removals: dict[int, Edits] = {}
        failing: dict[int, str] = {}
        covered = self.covered
        for name in self.left:
            if any(name in tie.layers for tie in ties):
                continue
            try:
                tie = find_tie(graph, self.model, name)
            except IncompatibleModel as error:
                self.named.setdefault(name, str(error))
                continue
            ties.append(tie)
            known = next((one for one in tie.layers if one in covered), "")
            if known:
                failing[id(tie)] = f"it is tied to {known}, which was found without it"
            elif not any(head in tie.layers for head in self.heads):
                removal, why = _tried(graph, self.model, tie)
                removals |= {id(tie): removal} if removal else {}
                failing |= {id(tie): why} if why else {}
        failing |= failing_of(self.model, removals, self.example_inputs)
        for tie in ties:
            if id(tie) in failing:
                self.tried = dict.fromkeys(tie.layers, failing[id(tie)]) | self.tried
            else:
                self.found.append(Followable(tie=tie, graph=graph))


def _tried(graph: Followed, model: nn.Module, tie: Tie) -> tuple[Edits | None, str]:
    """Half of the filters of a tie as a removal, or what stands against any."""
    norms = {name: filter_norms(model.get_submodule(name)).tolist() for name in tie.layers}
    taken = take(
        graph,
        model,
        tie,
        lambda one: choose(
            one,
            model,
            sparsity=TRIAL,
            importance=lambda bundle: sum(norms[name][index] for name, index in bundle),
        ),
    )
    if taken.touched is None:
        return None, CIRCLES
    if not taken.filters:
        some = count_removed(width(model.get_submodule(tie.layers[0])), TRIAL)
        return None, ALL_OR_NONE if some else ""
    return as_edits(taken.touched), ""
