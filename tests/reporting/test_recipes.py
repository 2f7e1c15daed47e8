"""Recipes as text, and which runs differ only by seed."""

from dataclasses import replace
from typing import Any

import pytest

from reporting.recipes import parameters, recipe_text, signature
from store.runs import Run

LEVEL = {"_target_": "a.B", "name": "level", "sparsity": 0.5, "op_types": ["Conv2d"], "x": None}
SHORT = {"name": "short", "epochs": 5, "optimizer": "adam", "augmentation": {"shift": 1}}


def lineage(**steps: Any) -> dict[str, Any]:
    return {"base_id": "b", "operation": {"name": "level", "parameters": steps}}


RUN = Run(
    run_id="a",
    model="net",
    compressor="level",
    baseline="b",
    fingerprint="f",
    seed=0,
    config={"model": {"checkpoint": "w", "width": 8}, "datasets": ["digits"], "name": "mine"},
    lineage=lineage(compressor=LEVEL),
)


def test_what_is_empty_is_left_out_and_other_slots_have_their_name_before_them() -> None:
    assert parameters(lineage(compressor=LEVEL, finetune=SHORT)) == {
        "sparsity": 0.5,
        "op_types": "[Conv2d]",
        "finetune": "short",
        "finetune.epochs": 5,
        "finetune.optimizer": "adam",
        "finetune.augmentation.shift": 1,
    }


def test_the_text_is_short_about_fine_tuning() -> None:
    text = recipe_text(lineage(compressor=LEVEL, finetune=SHORT, then={"name": "ort"}))
    assert text == "sparsity=0.5 op_types=[Conv2d] finetune=short finetune.epochs=5 then=ort"
    assert recipe_text({}) == ""


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"seed": 1, "fingerprint": "g", "baseline": "c"}, True),
        ({"config": {**RUN.config, "model": {"checkpoint": "v", "width": 8}}}, True),
        ({"config": {**RUN.config, "model": {"checkpoint": "w", "width": 9}}}, False),
        ({"config": {**RUN.config, "limit_samples": 60}}, False),
        ({"lineage": lineage(compressor={**LEVEL, "sparsity": 0.6})}, False),
        ({"lineage": {}, "baseline": None}, False),
        ({"model": "other"}, False),
    ],
    ids=["seed", "checkpoint", "width", "samples", "recipe", "baseline", "model"],
)
def test_runs_that_differ_only_by_seed_or_checkpoint_have_one_signature(
    changed: dict[str, Any], same: bool
) -> None:
    assert (signature(replace(RUN, **changed)) == signature(RUN)) is same
