"""Channels whose BatchNorm scales them down, one threshold for the whole network."""

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.forecast import announce
from compressors.options import whole
from compressors.pruning.coupling import Filter, Tie, closed, width
from compressors.pruning.dependency import Followed, as_edits
from compressors.pruning.filters import Proposal, names_of, settle
from compressors.pruning.ties import CIRCLES, Followable, find_ties
from compressors.tracing import LAYERS
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, perform

Gamma = tuple[str, int]
"""BatchNorm and channel."""


@dataclass(frozen=True, kw_only=True)
class Channel:
    """What goes or stays as one.

    Args:
        tie: Index of the layers it belongs to; None where they could not be followed.
        filters: Tied filters.
        gammas: What scales them.
        own: Those of the gammas that were selected; they are counted and ranked.
        costs: How many filters and selected gammas each layer loses.
    """

    tie: int | None
    filters: list[Filter]
    gammas: list[Gamma]
    own: list[Gamma]

    @property
    def costs(self) -> Counter[str]:
        """Layer -> filters or selected gammas that it loses."""
        return Counter(name for name, _ in [*self.filters, *self.own])


class Slim(Compressor):
    """Removes the channels with the smallest BatchNorm scales (gammas), over the whole network.

    Of all channels of the selected BatchNorms together, at most floor(sparsity n) go: those under
    one threshold; one stays in each layer. Channels that are tied by additions have several
    gammas: their mean counts. Before, the network is trained with a penalty on the gammas.

    Args:
        epochs: Of that training; 0 takes the gammas as they are.
        l1: Penalty on the sum of the gammas' magnitudes.
        **selection: Those of Compressor; names are those of BatchNorms.

    Reference:
        Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
    """

    treatable: ClassVar = ("BatchNorm2d",)
    default_types: ClassVar = treatable
    needs: ClassVar = frozenset({"train"})

    def __init__(self, *, epochs: int = 10, l1: float = 1e-4, **selection: Any) -> None:
        super().__init__(**selection)
        faults = whole(epochs, "epochs", least=0)
        if isinstance(l1, bool) or not isinstance(l1, int | float) or not l1 >= 0:
            faults.append(f"compressor.l1 is at least 0, got {l1!r}")
        if faults:
            raise ConfigError(faults)
        self.epochs, self.l1 = epochs, l1

    def options(self) -> dict[str, Any]:
        """How the gammas are trained before."""
        return {"epochs": self.epochs, "l1": self.l1}

    def refuse(self, model: nn.Module) -> None:
        """As every compressor; a model without BatchNorm has its own sentence."""
        super().refuse(model)
        if not any(isinstance(part, nn.BatchNorm2d) for part in model.modules()):
            raise IncompatibleModel(
                f"{self.name} ranks channels by the scales of BatchNorm2d, and this model has no "
                "BatchNorm2d; take another criterion, such as l1_filter or taylor_fo_weight"
            )

    def decide(self, task: Task) -> Decision:
        """Train if wanted, rank all channels, try the removal out."""
        values = sorted(set(task.selection.sparsity.values()))
        if len(values) > 1:
            raise ConfigError([f"{self.name} has one sparsity for the whole network, got {values}"])
        names = [task.prefix + name for name in task.selection.sparsity]
        bare = [name for name in names if _gammas(task, name) is None]
        names = [name for name in names if name not in bare]
        notes = [f"{names_of(task, bare)}: left whole, without scales"] if bare else []
        channels = _Channels(task, names, values[0])
        if self.epochs and channels.can_go:
            self._train(task, names)
        chosen = channels.chosen()
        notes += channels.notes
        if not chosen:
            return Decision(notes=[*notes, *channels.too_few])
        decision = settle(task, list(channels.proposals(chosen)), notes)
        decision.notes.append(
            f"{sum(len(channel.own) for channel in chosen)} of {channels.total} channels are below "
            "one threshold for all layers; that takes "
            f"{_share_taken(task.model, decision.edits):.1%} of all parameters"
        )
        if not self.epochs:
            return decision
        perform(task.model, decision.edits)
        return Decision(model=task.model, notes=decision.notes)

    def _train(self, task: Task, names: Sequence[str]) -> None:
        """Train all of the network, the gammas towards zero."""
        frozen = [name for name in names if not cast(Tensor, _gammas(task, name)).requires_grad]
        if frozen:
            raise ConfigError(
                [
                    f"{names_of(task, frozen)}: frozen, so the scales cannot be trained; pass "
                    "compressor.epochs=0 to rank them as they are"
                ]
            )

        def penalty(model: nn.Module) -> Tensor:
            scales = [cast(Tensor, model.get_submodule(name).weight) for name in names]
            return self.l1 * torch.cat(scales).abs().sum()

        announce(self.name, task, epochs=self.epochs)
        task.given.train(task.model, epochs=self.epochs, penalty=penalty)


class _Channels:
    """All channels behind the selected BatchNorms, whatever their scales, and those that go."""

    def __init__(self, task: Task, names: Sequence[str], sparsity: float) -> None:
        self.task = task
        self.names, self.sparsity = names, sparsity
        self.obstacle = "no layer before it could be followed"
        self.notes: list[str] = []
        self.ties: list[Followable] = []
        self.reached: set[str] = set()
        self.channels = [*self._followed(), *self._alone()]
        self.total = sum(len(channel.own) for channel in self.channels)
        self.budget = count_removed(self.total, sparsity) if self.total else 0
        self.widths = {
            name: width(task.model.get_submodule(name))
            for one in self.ties
            for name in one.tie.layers
        }
        self.widths |= {name: len(cast(Tensor, _gammas(task, name))) for name in names}

    @property
    def can_go(self) -> bool:
        """Whether any channel may be the first to go, whatever the scales."""
        return any(
            len(one.own) <= self.budget and _is_spared(one.costs, self.widths)
            for one in self.channels
        )

    @property
    def too_few(self) -> list[str]:
        """What to say where none goes."""
        told = f"{self.sparsity:g} of {self.total} channels rounds to nothing"
        return [told] if self.total else []

    def proposals(self, chosen: Sequence[Channel]) -> Iterator[Proposal]:
        """What to do, tie by tie."""
        for index in dict.fromkeys(channel.tie for channel in chosen):
            mine = [channel for channel in chosen if channel.tie == index]
            gammas = [gamma for channel in mine for gamma in channel.gammas]
            layers = list(dict.fromkeys(name for name, _ in gammas))
            own = [name for name in layers if name in self.names]
            masking, obstacle = partial(_masks, self.task.model, gammas), ""
            touched, note = None, ""
            if index is None:
                obstacle = self.obstacle
            else:
                filters = [each for channel in mine for each in channel.filters]
                one = self.ties[index]
                touched = closed(one.graph, one.tie, filters)
                obstacle = CIRCLES if touched is None else ""
            others = [name for name in layers if name not in own]
            if others:
                tied = names_of(self.task, own)
                note = f"{names_of(self.task, others)}: pruned too, tied to {tied}"
            removal = None if touched is None else as_edits(touched)
            yield Proposal(
                layers=own, removal=removal, masking=masking, obstacle=obstacle, note=note
            )

    def _followed(self) -> Iterator[Channel]:
        """Channels whose filters could be followed."""
        model = self.task.model
        layers = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
        ties = find_ties(model, self.task.example_inputs, layers, look=self.task.look)
        self.obstacle = next(reversed(ties.unknown.values()), self.obstacle)
        for one in ties.found:
            behind = _behind(one.graph, model, one.tie)
            if not self._is_free(one.tie, behind):
                continue
            self.ties.append(one)
            for bundle in one.tie.bundles:
                gammas = list(dict.fromkeys(g for one in bundle for g in behind.get(one, [])))
                if any(name in self.names for name, _ in gammas):
                    yield self._channel(len(self.ties) - 1, bundle, gammas)

    def _is_free(self, tie: Tie, behind: Mapping[Filter, list[Gamma]]) -> bool:
        """Whether a tie has selected gammas and may lose channels; a sentence where it may not."""
        norms = list(dict.fromkeys(name for gammas in behind.values() for name, _ in gammas))
        own = [name for name in norms if name in self.names]
        self.reached.update(own)
        for name in (*tie.layers, *norms):
            short = name.removeprefix(self.task.prefix)
            is_head = short in self.task.heads
            if own and (is_head or short in self.task.selection.excluded):
                why = "makes the logits" if is_head else "is excluded"
                own_names = names_of(self.task, own)
                self.notes.append(f"{own_names}: left whole, tied to {short}, which {why}")
                return False
        return bool(own)

    def _alone(self) -> Iterator[Channel]:
        """Channels of BatchNorms that no followed layer feeds: they can be set to zero."""
        for name in self.names:
            if name not in self.reached:
                count = len(cast(Tensor, _gammas(self.task, name)))
                yield from (self._channel(None, [], [(name, i)]) for i in range(count))

    def _channel(self, tie: int | None, filters: list[Filter], gammas: list[Gamma]) -> Channel:
        own = [gamma for gamma in gammas if gamma[0] in self.names]
        return Channel(tie=tie, filters=filters, gammas=gammas, own=own)

    def chosen(self) -> list[Channel]:
        """Those of least mean magnitude; the first the budget does not cover is the threshold."""
        scales = {n: cast(Tensor, _gammas(self.task, n)).detach().abs() for n in self.names}

        def score(channel: Channel) -> float:
            return sum(float(scales[name][i]) for name, i in channel.own) / len(channel.own)

        budget, left = self.budget, self.widths
        chosen: list[Channel] = []
        for channel in sorted(self.channels, key=score):
            if not _is_spared(channel.costs, left):
                continue
            budget -= len(channel.own)
            if budget < 0:
                break
            left = {name: count - channel.costs[name] for name, count in left.items()}
            chosen.append(channel)
        return chosen


def _is_spared(costs: Mapping[str, int], left: Mapping[str, int]) -> bool:
    """Whether each layer keeps one at least."""
    return all(left[name] > count for name, count in costs.items())


def _share_taken(model: nn.Module, edits: Edits) -> float:
    """Fraction of a network's parameters that edits remove or zero."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(1)
    perform(twin, edits)
    left = sum(int(parameter.count_nonzero()) for parameter in twin.parameters())
    return 1 - left / sum(parameter.numel() for parameter in model.parameters())


def _behind(graph: Followed, model: nn.Module, tie: Tie) -> dict[Filter, list[Gamma]]:
    """The BatchNorm channels that go with each filter."""
    behind: dict[Filter, list[Gamma]] = {}
    for name in tie.layers:
        for item in graph.touched(name, range(width(model.get_submodule(name)))):
            if isinstance(graph.module(item.name), nn.BatchNorm2d):
                for channel, root in zip(item.channels, item.roots, strict=True):
                    behind.setdefault((name, root), []).append((item.name, channel))
    return behind


def _masks(model: nn.Module, gammas: Sequence[Gamma]) -> Edits:
    """Scale and shift of these channels, zero."""
    masked: dict[str, Tensor] = {}
    for name, channel in gammas:
        for part, tensor in model.get_submodule(name).named_parameters():
            mask = masked.setdefault(f"{name}.{part}", torch.zeros(len(tensor), dtype=torch.bool))
            mask[channel] = True
    return Edits(masked=masked)


def _gammas(task: Task, name: str) -> Tensor | None:
    """Scales of a BatchNorm by its full name; None where it has none."""
    return cast(Tensor | None, task.model.get_submodule(name).weight)
