"""Layers that have to stay as another place of the network has them."""

from collections.abc import Iterable

from compressors.base import Task
from models.replacements import why_bound


def free_of_others(task: Task, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Layers that no other place shares, and sentences about those that are left in floats."""
    whys = {name: why_bound(task.model, task.layer(name)) for name in names}
    kept: dict[str, list[str]] = {}
    for name, why in whys.items():
        kept.setdefault(why, []).append(name)
    free = kept.pop("", [])
    return free, [f"{', '.join(some)}: left in floats, {why}" for why, some in kept.items()]
