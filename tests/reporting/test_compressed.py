from pathlib import Path
from typing import Any

from reporting.compressed import compressed_text


def step(before: int, after: int, **more: Any) -> dict[str, Any]:
    """What a step achieved."""
    keys = ("params", "nonzero_params", "macs", "weight_bytes")
    numbers = {f"{key}_before": before for key in keys} | {f"{key}_after": after for key in keys}
    return {**numbers, "removed": 0.25, "sparsity": 0.5, "latency_ratio": 0.75, **more}


RECIPE = {
    "compressor": {"_target_": "x", "name": "l1_filter", "sparsity": 0.5, "op_names": None},
    "finetune": {"name": "short", "epochs": 5},
    "then": {"_target_": "y", "name": "ort"},
}
ACHIEVED = {
    "compressor": step(4000, 1000, notes=["a filter stays"]),
    "then": step(1000, 800, simulated=True, loss=0.123456, notes=[]),
    "seconds": {"compressor": 1.0},
}


def test_every_step_has_a_column_and_the_change_is_over_all(tmp_path: Path) -> None:
    text = compressed_text(
        model="net", label="l1_filter_0.5+short+ort", recipe=RECIPE, folder=tmp_path,
        achieved=ACHIEVED, found=False, seconds=2.34, exports=[tmp_path / "model.onnx"],
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:3] == [
        "net, l1_filter_0.5+short+ort",
        "before after l1_filter after ort change",
        "parameters 4,000 1,000 800 -80.0%",
    ]
    assert "share of the parameters gone or zero 75.0% 80.0%" in lines
    assert "latency 0.75x 0.75x" in lines
    assert "simulated yes" in lines
    assert "loss 0.1235" in lines
    assert "asked for: sparsity=0.5 finetune=short finetune.epochs=5 then=ort" in lines
    assert "l1_filter: a filter stays" in lines
    assert lines[-2:] == [f"made in 2.3 s: {tmp_path}", f"exported: {tmp_path}/model.onnx"]


def test_a_dry_run_that_finds_nothing_says_so() -> None:
    text = compressed_text(
        model="net", label="ort", recipe={"then": RECIPE["then"]}, folder=None, achieved={},
        found=False, seconds=0.0, exports=[],
    )  # fmt: skip
    assert text == "net, ort\nasked for: then=ort\nnot made yet\n"


def test_a_dry_run_says_what_it_would_export(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "model": "net", "label": "ort", "recipe": RECIPE, "seconds": 0.0, "dry": True,
    }  # fmt: skip
    file = Path("model.onnx")
    text = compressed_text(**given, folder=None, achieved={}, found=False, exports=[file])
    assert text.endswith("\nnot made yet\nwould export: model.onnx\n")
    found = {"folder": tmp_path, "achieved": ACHIEVED, "found": True}
    text = compressed_text(**given, **found, exports=[tmp_path / file])
    assert text.endswith(f"found in 0.0 s: {tmp_path}\nwould export: {tmp_path}/model.onnx\n")
