"""Recipes for people: what was done to the baseline, as columns and as one line of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from core.digest import digest
from store.runs import Run

UNSHOWN = ("_target_", "name")

FIRST = "compressor"
"""The slot whose parameters are shown without its name before them."""

ORIGIN = frozenset({"checkpoint", "checkpoint_url", "pretrained"})
"""Arguments of a model that say where its weights come from."""


def parameters(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe was told, by name; what was left empty is left out.

    Args:
        lineage: Of a run; empty for a baseline.

    Example:
        >>> level = {"name": "level", "sparsity": 0.5, "op_types": None, "scope": "layer"}
        >>> short = {"name": "short", "epochs": 5}
        >>> parameters({"operation": {"parameters": {"compressor": level, "finetune": short}}})
        {'sparsity': 0.5, 'scope': 'layer', 'finetune': 'short', 'finetune.epochs': 5}
    """
    steps = lineage.get("operation", {}).get("parameters", {})
    found: dict[str, Any] = {}
    for slot, step in steps.items():
        if slot != FIRST:
            found[slot] = step.get("name")
        inner = {key: value for key, value in step.items() if key not in UNSHOWN}
        found |= _flat(inner, "" if slot == FIRST else f"{slot}.")
    return found


def recipe_text(lineage: Mapping[str, Any]) -> str:
    """A recipe as `sparsity=0.5 scope=global finetune=short finetune.epochs=5`.

    Of a fine-tuning the name and the epochs are told; `parameters` has the rest.
    """
    told = {
        name: value
        for name, value in parameters(lineage).items()
        if not name.startswith("finetune.") or name == "finetune.epochs"
    }
    return " ".join(f"{name}={_plain(value)}" for name, value in told.items())


def signature(run: Run) -> str:
    """Equal for runs that differ only by seed, or by the checkpoint they started from."""
    config = run.config
    model = {key: value for key, value in (config.get("model") or {}).items() if key not in ORIGIN}
    return digest(
        {
            "model": [run.model, model],
            "recipe": run.lineage.get("operation"),
            "has_baseline": run.baseline is not None,
            "datasets": config.get("datasets"),
            "dataset_library": config.get("dataset_library"),
            "limit_samples": config.get("limit_samples"),
        }
    )


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return dict(_leaves(values, prefix))


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value not in (None, []):
            yield f"{prefix}{key}", _plain(value) if isinstance(value, list) else value


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_plain(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}={_plain(one)}" for key, one in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)
