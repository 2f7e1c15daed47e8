"""Whole heads of attention, the least important first."""

import copy
from typing import Any, ClassVar, Literal, cast, get_args

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor

from compressors.amount import count_removed
from compressors.base import Compressor, Decision, Task
from compressors.pruning.level import smallest
from compressors.pruning.observed import observed, require_batches
from compressors.pruning.trial import why_not
from compressors.selfcheck import same_function
from compressors.tracing import traceable
from core.errors import ConfigError
from models.attention import KeptHeads, head_channels, why_whole
from models.edits import Edits, perform, zeros_of

Criterion = Literal["taylor", "l1"]


def by_head(attention: Attention, qkv: Tensor, proj: Tensor) -> Tensor:
    """What belongs to each head, one row a head.

    Args:
        attention: Whose heads.
        qkv: Of the shape of its `qkv.weight`: the weight, or a gradient.
        proj: Of the shape of its `proj.weight`.

    Returns:
        Float64 [heads, entries of a head].
    """
    heads = attention.num_heads
    before = qkv.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(1)
    behind = proj.unflatten(1, (heads, -1)).transpose(0, 1).flatten(1)
    return torch.cat([before, behind], dim=1).detach().double()


class AttentionHeads(Compressor):
    """Removes floor(sparsity n) of the n heads of each attention; at least one stays.

    A head is its part of the projections to queries, keys and values and of the projection back.

    Args:
        criterion: `taylor`: the sum of (gradient x weight)^2 over the weights of a head, the mean
            over batches; `l1`: the sum of their magnitudes.
        statistics_batches: How many batches `taylor` looks at.
        **selection: Those of Compressor.

    Reference:
        Michel et al., Are Sixteen Heads Really Better than One?, NeurIPS 2019; importance as in
        Molchanov et al., CVPR 2019, equation 8.
    """

    treatable: ClassVar = ("Attention",)
    default_types: ClassVar = treatable
    needs: ClassVar = frozenset({"batches"})

    def __init__(
        self, *, criterion: Criterion = "taylor", statistics_batches: int = 1, **selection: Any
    ) -> None:
        super().__init__(**selection)
        require_batches(statistics_batches)
        if criterion not in get_args(Criterion):
            known = " or ".join(get_args(Criterion))
            raise ConfigError([f"compressor.criterion is {known}, got {criterion!r}"])
        self.criterion, self.statistics_batches = criterion, statistics_batches
        if criterion == "l1":
            self.needs = frozenset()  # type: ignore[misc]  # magnitudes are there without data

    def options(self) -> dict[str, Any]:
        """How heads are ranked."""
        return {"criterion": self.criterion, "statistics_batches": self.statistics_batches}

    def decide(self, task: Task) -> Decision:
        """Rank the heads of each attention, and try out what is left."""
        layers = {task.prefix + name: task.layer(name) for name in task.selection.sparsity}
        whole = {name: why_whole(layer) for name, layer in layers.items()}
        notes = [
            f"{name.removeprefix(task.prefix)}: left whole, {why}"
            for name, why in whole.items()
            if why
        ]
        attentions = {n: cast(Attention, a) for n, a in layers.items() if not whole[n]}
        scores = self._scores(task, attentions)
        removal, masking = Edits(), Edits()
        for name, attention in attentions.items():
            short, count = name.removeprefix(task.prefix), attention.num_heads
            sparsity = task.selection.sparsity[short]
            gone = smallest(scores[name], count=count_removed(count, sparsity)).nonzero()
            heads = gone.flatten().tolist()
            if not heads:
                notes.append(f"{short}: {sparsity:g} of {count} heads rounds to nothing")
                continue
            target = f"{KeptHeads.__module__}.{KeptHeads.__qualname__}"
            spec = {"_target_": target, "removed": heads}
            removal = removal.merge(Edits(replaced={name: spec}))
            masking = masking.merge(_masks(name, attention, heads))
        obstacle = _obstacle(task, removal, masking)
        if not obstacle:
            freed = [n for n in zeros_of(task.model) if n.rsplit(".", 2)[0] in removal.replaced]
            if freed:
                notes.append("training may fill zeros that an earlier step made in the heads left")
            return Decision(edits=removal, notes=notes)
        notes.append(
            f"heads are zero instead of removed, so size and latency stay, because {obstacle}"
        )
        return Decision(edits=masking, notes=notes)

    def _scores(self, task: Task, attentions: dict[str, Attention]) -> dict[str, Tensor]:
        """Importance of each head of each attention, float64 [heads]."""
        if self.criterion == "l1":
            return {
                name: by_head(a, a.qkv.weight, a.proj.weight).abs().sum(dim=1)
                for name, a in attentions.items()
            }
        twin = traceable(task.model)
        twins = {name: cast(Attention, twin.get_submodule(name)) for name in attentions}
        scores = {n: torch.zeros(a.num_heads, dtype=torch.float64) for n, a in twins.items()}
        batches = observed(task, self.statistics_batches)
        for images, labels in batches:
            twin.zero_grad(set_to_none=True)
            with torch.enable_grad():
                F.cross_entropy(twin(images), labels).backward()
            for name, a in twins.items():
                gradient = by_head(a, _gradient(a.qkv), _gradient(a.proj))
                gain = gradient * by_head(a, a.qkv.weight, a.proj.weight)
                scores[name] += gain.square().sum(dim=1).cpu() / len(batches)
        return scores


def _gradient(layer: torch.nn.Linear) -> Tensor:
    """Gradient of a layer's weight; zeros where the layer takes no part."""
    return torch.zeros_like(layer.weight) if layer.weight.grad is None else layer.weight.grad


def _masks(name: str, attention: Attention, heads: list[int]) -> Edits:
    """The same heads, zeroed."""
    rows, columns = head_channels(attention, heads)
    masked = {
        f"{name}.qkv.weight": torch.zeros(attention.qkv.weight.shape, dtype=torch.bool),
        f"{name}.proj.weight": torch.zeros(attention.proj.weight.shape, dtype=torch.bool),
    }
    masked[f"{name}.qkv.weight"][rows] = True
    masked[f"{name}.proj.weight"][:, columns] = True
    if attention.qkv.bias is not None:
        masked[f"{name}.qkv.bias"] = masked[f"{name}.qkv.weight"][:, 0]
    return Edits(masked=masked)


def _obstacle(task: Task, removal: Edits, masking: Edits) -> str:
    """What stands against the removal, after `because`; empty where nothing does."""
    failure = why_not(task.model, removal, task.example_inputs)
    if failure:
        return failure
    edited = copy.deepcopy(task.model)
    perform(edited, removal)
    return same_function(task.model, edited, masking, task.example_inputs).fault
