"""The criteria that a recipe of several steps has to choose from."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from compressors.base import Decision, Task
from compressors.pruning.criteria import FPGM, L2Filter, RandomFilter
from compressors.pruning.filters import FilterPruner, L1Filter
from compressors.pruning.level import Level
from compressors.pruning.observed import (
    ActivationAPoZRank,
    ActivationMeanRank,
    TaylorFirstOrderWeight,
)
from compressors.pruning.slim import Slim
from core.errors import IncompatibleModel


class Scales(Slim):
    """As Slim, of the scales as they are: who builds on it trains the network."""

    def __init__(self, **selection: Any) -> None:
        super().__init__(epochs=0, **selection)


BASES: Mapping[str, type[Level | FilterPruner]] = {
    "level": Level,
    "l1_filter": L1Filter,
    "l2_filter": L2Filter,
    "fpgm": FPGM,
    "random_filter": RandomFilter,
    "taylor_fo_weight": TaylorFirstOrderWeight,
    "activation_apoz_rank": ActivationAPoZRank,
    "activation_mean_rank": ActivationMeanRank,
}

"""Those that choose within each layer."""

WHOLE: Mapping[str, type[Slim]] = {"slim": Scales}
"""Those that choose among all layers at once."""


def decided_by(
    base: type[Level | FilterPruner | Slim],
    task: Task,
    sparsity: Mapping[str, float],
    *,
    asked: str,
    model: nn.Module | None = None,
    **options: Any,
) -> Decision:
    """What a criterion does about some layers; what the task excludes stays excluded.

    Args:
        base: The criterion.
        task: Of the recipe that asks.
        sparsity: Short name of a layer -> fraction of what it has now, in [0, 1).
        asked: What errors name: the recipe that asks, and the option that says the criterion.
        model: The network as it is now; left out: that of the task.
        **options: Own ones of the criterion.

    Raises:
        IncompatibleModel: Nothing would be changed; the text says why.
    """
    entries: list[dict[str, Any]] = [
        {"op_names": [name], "sparsity": share} for name, share in sparsity.items() if share > 0
    ]
    if not entries:
        raise IncompatibleModel(f"{asked}: so little of every layer rounds to nothing")
    if task.selection.excluded:
        entries.append({"op_names": sorted(task.selection.excluded), "exclude": True})
    network = task.model if model is None else model
    recipe = base(name=asked, config_list=entries, **options)
    return recipe.plan(network, task.example_inputs, task.resources)
