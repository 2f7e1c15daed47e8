"""An agent that learns how much of each layer to keep."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from compressors.analysis.counting import LayerCost, count_flops_params
from compressors.options import whole
from compressors.search.base import Search
from compressors.search.budget import Budget, Fit, fitted
from compressors.search.ddpg import Agent, Step
from compressors.search.oracle import Candidate, Oracle, Quantity, Scored
from core.errors import ConfigError, unknown

Reward = Literal["score", "score_and_flops"]

STATE = 11
"""Numbers that describe a layer and what was done before it."""

KEPT = 0.5
"""Of the multiply-accumulates, where nothing else is said."""

RANDOM_SHARE = 1 / 8
"""Of the episodes: those that act by chance alone; 100 of the paper's 800."""


class AMC(Search):
    """Goes through the layers, chooses for each how much to keep, and learns from the score.

    What it chooses is bounded, so that the budget can still be met with the least that may be kept
    of the later layers: every candidate is within it. An
    agent first acts by chance, then as it has learned, with less and less noise. What comes out is
    the candidate with the best score.

    Args:
        flops_ratio: Share of the multiply-accumulates that is kept, in (0, 1); None for 0.5, or
            where there is a `sparsity`, which takes its place.
        lbound: Least share of the filters of a layer that is kept, in [0, 1).
        rbound: Largest share of the filters of a layer that is kept, in (lbound, 1].
        train_episode: Candidates that are tried.
        reward: `score`; or `score_and_flops`: minus the error times the logarithm of the
            multiply-accumulates, so that fewer of them are worth something too.
        budget: As in Search; with params or latency there has to be a `sparsity`.
        sparsity: Fraction of the budget's quantity that goes; None for 1 - flops_ratio.
        **options: Those of Search.

    Reference:
        He et al., AMC: AutoML for Model Compression and Acceleration on Mobile Devices, ECCV 2018,
        sections 3.1 to 3.4. There, a share is kept of a layer's inputs; here, of its filters, and
        the cost of a choice is that of the network it leads to instead of an estimate.
    """

    efforts: ClassVar = {
        "quick": {"epochs": 0, "train_episode": 40},
        "paper": {"epochs": 0, "train_episode": 800},
    }

    def __init__(
        self,
        *,
        flops_ratio: float | None = None,
        lbound: float = 0.2,
        rbound: float = 1.0,
        train_episode: int | None = None,
        reward: Reward = "score",
        budget: Quantity = "macs",
        sparsity: float | None = None,
        **options: Any,
    ) -> None:
        kept = KEPT if flops_ratio is None else flops_ratio
        faults = _share_faults(kept, lbound, rbound)
        faults += whole(train_episode, "train_episode", or_null=True)
        if reward not in get_args(Reward):
            faults.append(unknown("compressor.reward", reward, get_args(Reward)))
        if sparsity is None and budget in ("params", "latency"):
            faults.append(
                f"compressor.flops_ratio counts macs: with compressor.budget={budget} pass "
                "compressor.sparsity, the fraction of them that goes"
            )
        if sparsity is not None and flops_ratio is not None:
            faults.append(
                "compressor.sparsity takes the place of flops_ratio: pass one of them, got "
                f"{sparsity!r} and {flops_ratio!r}"
            )
        if faults:
            raise ConfigError(faults)
        wanted = 1 - kept if sparsity is None else sparsity
        super().__init__(budget=budget, sparsity=wanted, **options)
        self.flops_ratio = kept if sparsity is None else None
        self.lbound, self.rbound, self.reward = lbound, rbound, reward
        self.train_episode: int = train_episode or self.efforts[self.effort]["train_episode"]

    def options(self) -> dict[str, Any]:
        """Those of every search, what may be kept, and what is learned from."""
        names = ("flops_ratio", "lbound", "rbound", "train_episode", "reward")
        return {**super().options(), **{name: getattr(self, name) for name in names}}

    def expected(self, oracle: Oracle) -> int:
        """The same share of every layer, and one candidate an episode."""
        return 1 + self.train_episode

    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Act, score, learn, as often as wanted."""
        walk = Walk(oracle, budget, low=self.lbound, high=self.rbound)
        agent = Agent(STATE, low=self.lbound, high=self.rbound, seed=oracle.task.given.seed)
        for episode in range(self.train_episode):
            by_chance = episode < self.train_episode * RANDOM_SHARE
            kept: dict[str, float] = {}
            states = [walk.state(kept)]
            for name in walk.names:
                wanted = agent.any_action() if by_chance else agent.noisy_action(states[-1])
                kept[name] = walk.bounded(kept, wanted)
                states.append(walk.state(kept))
            candidate = walk.candidate(kept)
            if candidate.score is None and oracle.is_exhausted:
                break
            score = oracle.score(candidate) if budget.is_met(oracle, candidate) else None
            if score is None:  # it cannot be made: nothing to learn from
                continue
            reward = self._reward(score, candidate)
            for number, name in enumerate(walk.names):
                last = number == len(walk.names) - 1
                agent.remember(Step(states[number], kept[name], reward, states[number + 1], last))
            if not by_chance:
                for _ in walk.names:
                    agent.learn()
                agent.calm_down()
        return oracle.best

    def _reward(self, score: float, candidate: Candidate) -> float:
        """What a whole episode was worth; more is better."""
        up = self.optimize_mode == "maximize"
        if self.reward == "score":
            return score if up else -score
        return -(1 - score if up else score) * math.log(candidate.macs)


class Walk:
    """The way through the layers: what is seen before each, and what may be kept of it.

    Args:
        oracle: Tells what candidates cost.
        budget: What has to go.
        low: Least share that is kept of a layer.
        high: Largest share that is kept of a layer.

    Raises:
        ConfigError: The least of all layers is still too much; not told where that network cannot
            be made, as others may.
    """

    def __init__(self, oracle: Oracle, budget: Budget, *, low: float, high: float) -> None:
        self.oracle, self.budget, self.low, self.high = oracle, budget, low, high
        self.names = list(oracle.filters)
        least = self.candidate(dict.fromkeys(self.names, low))
        if not least.obstacle and not budget.is_met(oracle, least):
            reached = 1 - oracle.removed(least, budget.quantity)
            raise ConfigError(
                [
                    f"keeping {1 - budget.sparsity:g} of the {budget.quantity} is not possible: "
                    f"with compressor.lbound={low:g} of the filters of every layer, "
                    f"{reached:.3g} of it is left; change lbound, or keep more"
                ]
            )
        costs = {layer.name: layer for layer in _costs(oracle)}
        self._macs = [
            sum(costs[layer].macs for layer in oracle.groups[name]) for name in self.names
        ]
        self._fixed = self._described([costs[name] for name in self.names])

    def candidate(self, kept: Mapping[str, float]) -> Candidate:
        """What is left when these shares are kept; a layer that is not named stays whole."""
        return self.oracle.candidate(_gone(kept))

    def bounded(self, kept: Mapping[str, float], wanted: float) -> float:
        """The share of the next layer that is nearest to what is wanted and can be afforded.

        What is wanted where its cost is not known, as the least of all later layers cannot be made
        beside it; the least one where only networks that cannot be made are narrow enough.

        Args:
            kept: Shares of the layers before.
            wanted: In [low, high].
        """
        name, later = self.names[len(kept)], self.names[len(kept) + 1 :]
        others = {**kept, **dict.fromkeys(later, self.low)}
        candidate = self.candidate({**others, name: wanted})
        if candidate.obstacle or self.budget.is_met(self.oracle, candidate):
            return wanted
        start = _gone({**others, name: wanted})
        fit = fitted(self.oracle, self.budget, {name: 1.0}, start)
        return 1 - fit.ratios[name] if fit else self.low

    def state(self, kept: Mapping[str, float]) -> Tensor:
        """What is seen before the next layer, [11] in [0, 1]; zeros behind the last one.

        Its place, filters, inputs, height and width, stride and kernel, multiply-accumulates,
        those that are gone so far, those of the layers behind it, and the share kept last.
        """
        here = len(kept)
        if here == len(self.names):
            return torch.zeros(STATE)
        total = sum(self._macs)
        macs = zip(kept.values(), self._macs, strict=False)
        gone = sum((1 - share) * cost for share, cost in macs) / total
        rest = sum(self._macs[here + 1 :]) / total
        before = [*kept.values()][-1] if kept else 1.0
        return torch.cat([self._fixed[here], torch.tensor([gone, rest, before])])

    def _described(self, layers: list[LayerCost]) -> Tensor:
        """What never changes of each layer, as a share of the largest, [layers, 8]."""
        model, prefix = self.oracle.task.model, self.oracle.task.prefix
        rows = []
        for place, layer in enumerate(layers):
            module: Any = model.get_submodule(prefix + layer.name)
            height, width = ([*layer.input_size[1:], 1, 1])[:2]
            stride, kernel = (
                math.prod(getattr(module, key, (1,))) for key in ("stride", "kernel_size")
            )
            filters, inputs = layer.weight_shape[:2]
            row = [place, filters, inputs, height, width, stride, kernel, self._macs[place]]
            rows.append(row)
        table = torch.tensor(rows, dtype=torch.float64)
        return (table / table.amax(dim=0).clamp(min=1)).float()


def _costs(oracle: Oracle) -> list[LayerCost]:
    return count_flops_params(oracle.task.model, oracle.task.example_inputs).layers


def _gone(kept: Mapping[str, float]) -> dict[str, float]:
    return {name: min(1 - share, math.nextafter(1, 0)) for name, share in kept.items()}


def _share_faults(flops_ratio: Any, lbound: Any, rbound: Any) -> list[str]:
    """What is wrong with the three shares that are kept."""
    shares = {"flops_ratio": flops_ratio, "lbound": lbound, "rbound": rbound}
    faults = [
        f"compressor.{key} is a share that is kept, a number from 0 to 1, got {value!r}"
        for key, value in shares.items()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
    ]
    if faults:
        return faults
    if not 0 < flops_ratio < 1:
        faults.append(
            f"compressor.flops_ratio is the share that is kept, in (0, 1), got {flops_ratio:g}"
        )
    if lbound >= rbound:
        faults.append(f"compressor.lbound is below rbound, got {lbound:g} and {rbound:g}")
    return faults
