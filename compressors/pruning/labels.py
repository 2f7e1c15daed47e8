"""Which channels have to go together, found by following numbered channels through the network.

Every filter gets a number, and the numbers go through one forward pass beside the values: what
moves values moves numbers, what combines values ties their numbers. Where channels are divided,
among heads or between two branches, the same ones go in each part, or whole parts go; sizes that
modules keep as attributes go along. An operation that is not known here fixes the numbers it meets:
their layers keep their filters, and all others can still lose theirs. The dependency graph gives up
on such networks.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressors.pruning.dependency import Touched
from compressors.pruning.following import Follower
from core.errors import IncompatibleModel
from models.edits import Side


class LabelGraph:
    """Answers what else has to go with a layer's filters, as far as it can be followed.

    Args:
        model: In eval mode; left as it is, a copy is run.
        example_inputs: One batch, shape [N, K, H, W].
        whole: Whether whole heads and groups go; else the same channels go in each of them.

    Raises:
        IncompatibleModel: An operation does with channels what is not expected here.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor, *, whole: bool = False) -> None:
        twin = copy.deepcopy(model).eval()
        follower = Follower(twin, whole=whole)
        try:
            with torch.no_grad(), follower:
                twin(example_inputs[:1])
        except (IndexError, RuntimeError, ValueError) as error:
            what = (str(error).splitlines() or [""])[0]
            raise IncompatibleModel(f"its channels cannot be numbered ({what})") from error
        self._modules = dict(twin.named_modules()) | dict(twin.named_parameters())
        self._modules |= follower.sizes
        self._slots, self._numbers = follower.slots, follower.numbers
        self._members: dict[int, list[tuple[str, Side, int]]] = {}
        roots = self._numbers.roots()
        for (name, side), labels in self._slots.items():
            for channel, root in enumerate(roots[labels].tolist()):
                self._members.setdefault(root, []).append((name, side, channel))

    def module(self, name: str) -> Any:
        """Module or bare parameter of the copy, or a size that one of its modules keeps."""
        return self._modules[name]

    def touched(self, layer: str, filters: Sequence[int]) -> list[Touched]:
        """Everything that goes with `filters` of `layer`, the layer itself included.

        Raises:
            IncompatibleModel: A filter meets an operation that cannot be followed.
        """
        if not filters:
            return []
        labels = self._slots.get((layer, "out"))
        if labels is None:
            raise IncompatibleModel("it is not called as a layer in the forward pass")
        root_of = dict(zip(range(len(labels)), self._numbers.roots()[labels].tolist(), strict=True))
        first: dict[int, int] = {}
        for index in filters:
            first.setdefault(root_of[index], index)
        for root in first:
            self._numbers.require_free(root)
        found: dict[tuple[str, Side], list[tuple[int, int]]] = {}
        for root, index in first.items():
            for name, side, channel in self._members[root]:
                found.setdefault((name, side), []).append((channel, index))
        return [
            Touched(name=name, side=side, channels=channels, roots=roots)
            for (name, side), pairs in found.items()
            for channels, roots in [tuple(zip(*sorted(pairs), strict=True))]
        ]
