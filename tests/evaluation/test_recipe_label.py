"""The readable part of a run id: what was done, and how much."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from core.app import CONFIG
from core.names import run_id
from evaluation.recipe import recipe_label

LEVEL = {
    "_target_": "compressors.pruning.level.Level",
    "name": "level",
    "sparsity": 0.5,
    "scope": "layer",
}
INT8 = {"_target_": "compressors.quantization.int8.Int8Static", "name": "int8", "samples": 512}
NAIVE = {"_target_": "compressors.quantization.naive.Naive", "name": "naive", "quant_bits": 4}
NO = {"sparsity": None}
LOW_RANK = {"name": "low_rank", "sparsity": 0.5, "energy": None, "rank_ratio": None}
WEIGHTS = {
    "_target_": "compressors.quantization.weight_only.Int8WeightOnly",
    "name": "int8_weight_only",
    "group_size": 32,
}
QAT = {"_target_": "compressors.quantization.qat.QAT", "name": "qat", "quant_bits": 8}


@pytest.mark.parametrize(
    ("slots", "label"),
    [
        ({}, "none"),
        ({"compressor": {"name": "none"}}, "none"),
        ({"compressor": LEVEL}, "level_0.5"),
        ({"compressor": {**LEVEL, "sparsity": 0}}, "level_0"),
        ({"compressor": {**LEVEL, "sparsity": None}}, "level"),
        ({"compressor": LEVEL, "finetune": {"name": "short", "epochs": 5}}, "level_0.5+short"),
        ({"compressor": INT8}, "int8"),
        ({"compressor": NAIVE}, "naive_bits_4_simulated"),
        ({"compressor": {**NAIVE, "quant_bits": {"weight": 4}}}, "naive_bits_weight_4_simulated"),
        ({"compressor": QAT}, "qat_bits_8"),
        ({"compressor": {**QAT, "deploy": None}}, "qat_bits_8_simulated"),
        ({"compressor": {"name": "agp", "final_sparsity": 0.5}}, "agp_0.5"),
        ({"compressor": {"name": "amc", "flops_ratio": 0.5}}, "amc_macs_kept_0.5"),
        ({"compressor": LOW_RANK}, "low_rank_0.5"),
        ({"compressor": {**LOW_RANK, **NO, "energy": 0.5}}, "low_rank_energy_kept_0.5"),
        ({"compressor": {**LOW_RANK, **NO, "rank_ratio": 0.5}}, "low_rank_ranks_kept_0.5"),
        ({"compressor": WEIGHTS}, "int8_weight_only_in_floats"),
        ({"compressor": {"name": "n_m", "n": 2, "m": 4, "sparsity": None}}, "n_m_2:4"),
    ],
)
def test_a_recipe_is_named_with_its_strength(slots: dict[str, Any], label: str) -> None:
    assert recipe_label(OmegaConf.create(slots)) == label


AMOUNTS: dict[str, list[Any]] = {
    "sparsity": [0.3, 0.6],
    "final_sparsity": [0.3, 0.6],
    "quant_bits": [4, 8, {"weight": 4, "input": 8}, {"weight": 8, "input": 4}],
    "flops_ratio": [0.3, 0.6],
    "energy": [0.3, 0.6],
    "rank_ratio": [0.3, 0.6],
    "n": [1, 3],
    "m": [8, 16],
}
"""What a file may say about how much its recipe does: one of them, or n and m."""

FOLLOWS = [("agp", "sparsity"), ("n_m", "sparsity")]
"""What another key decides there."""


FILES = {path.stem: OmegaConf.load(path) for path in (CONFIG / "compressor").glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(n for n, file in FILES.items() if AMOUNTS.keys() & file))
def test_no_two_strengths_of_a_recipe_read_alike(name: str) -> None:
    file = OmegaConf.to_container(FILES[name])
    own = [key for key in AMOUNTS if key in file and (name, key) not in FOLLOWS]
    file |= {"rewind_to": None, **{key: None for key in own if key not in ("n", "m")}}
    strengths = [{**file, key: value} for key in own for value in AMOUNTS[key]]
    labels = [recipe_label(OmegaConf.create({"compressor": one})) for one in strengths]
    assert len(set(labels)) == len(labels)


def test_an_id_keeps_the_strength() -> None:
    assert run_id("digits_cnn", "level_0.5+short", "0123456789ab") == (
        "digits_cnn-level_0.5_short-0123456789"
    )
