"""Which layers have to lose the same filters."""

import csv
import io
from dataclasses import dataclass, field

from torch import Tensor, nn

from compressors.pruning.coupling import Tie, groups_of, width
from compressors.pruning.ties import find_ties
from compressors.tracing import LAYERS, look_at, prefix_of
from core.errors import IncompatibleModel
from models.edits import sketch


@dataclass(frozen=True, kw_only=True)
class DependencySet:
    """Layers tied by additions, by an attention, or through a concatenation that is added.

    Args:
        layers: Short names in the model's order; a layer by itself is a set of one.
        filters: Number of filters of each layer.
        groups: Grouped layers and norms that want equally many channels left in each of their
            groups -> number of groups.
        fixed: Why no filter of the set can go; empty where they can.
    """

    layers: tuple[str, ...]
    filters: dict[str, int]
    groups: dict[str, int] = field(default_factory=dict)
    fixed: str = ""


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """All dependency sets of a network.

    Args:
        sets: In the model's order; each layer is in one of them.
        unknown: Layers whose filters cannot go -> why.
    """

    sets: list[DependencySet]
    unknown: dict[str, str] = field(default_factory=dict)

    def to_csv(self) -> str:
        """One line a set: `Dependency Set,Layers`, the layers separated by commas."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["Dependency Set", "Layers"])
        for number, one in enumerate(self.sets, start=1):
            writer.writerow([f"Set {number}", ",".join(one.layers)])
        return text.getvalue()


def channel_dependency(model: nn.Module, example_inputs: Tensor) -> Dependencies:
    """Follow every layer's filters through the network to the layers they are tied to.

    Args:
        model: Any network; left as it is.
        example_inputs: One batch, shape [N, K, H, W].

    Raises:
        IncompatibleModel: The network cannot be followed; the text names what stands in the way.
    """
    prefix, twin = prefix_of(model), sketch(model).eval()
    look = look_at(twin, example_inputs)
    layers = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    ties = find_ties(twin, example_inputs, layers, look=look)
    if ties.unknown and not ties.found:
        raise IncompatibleModel(next(iter(ties.unknown.values())))
    sets = [
        _described(one.tie, model, sorted(one.tie.layers, key=layers.index), look.heads)
        for one in ties.found
    ]
    unknown = {name.removeprefix(prefix): why for name, why in ties.unknown.items()}
    return Dependencies(sets=sets, unknown=unknown)


def _described(tie: Tie, model: nn.Module, layers: list[str], heads: list[str]) -> DependencySet:
    """A tie by short names, without its filters."""
    prefix = prefix_of(model)
    groups = {name: groups_of(tie, model, name, side) for name, side in sorted(tie.size)}
    fixed = [f"{n.removeprefix(prefix)} makes the logits" for n in layers if n in heads]
    return DependencySet(
        layers=tuple(name.removeprefix(prefix) for name in layers),
        filters={name.removeprefix(prefix): width(model.get_submodule(name)) for name in layers},
        groups={name.removeprefix(prefix): count for name, count in groups.items() if count > 1},
        fixed="; ".join(fixed),
    )
