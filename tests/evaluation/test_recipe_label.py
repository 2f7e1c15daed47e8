"""The readable part of a run id: what was done, and how much."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from core.names import run_id
from evaluation.compression import recipe_label

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
        ({"compressor": QAT}, "qat_bits_8"),
        ({"compressor": {**QAT, "deploy": None}}, "qat_bits_8_simulated"),
        ({"compressor": {"name": "agp", "final_sparsity": 0.5}}, "agp_0.5"),
        ({"compressor": {"name": "amc", "flops_ratio": 0.5}}, "amc_macs_kept_0.5"),
        ({"compressor": LOW_RANK}, "low_rank_0.5"),
        ({"compressor": {**LOW_RANK, **NO, "energy": 0.5}}, "low_rank_energy_kept_0.5"),
        ({"compressor": {**LOW_RANK, **NO, "rank_ratio": 0.5}}, "low_rank_ranks_kept_0.5"),
        ({"compressor": WEIGHTS}, "int8_weight_only_in_floats"),
    ],
)
def test_a_recipe_is_named_with_its_strength(slots: dict[str, Any], label: str) -> None:
    assert recipe_label(OmegaConf.create(slots)) == label


def test_an_id_keeps_the_strength() -> None:
    assert run_id("digits_cnn", "level_0.5+short", "0123456789ab") == (
        "digits_cnn-level_0.5_short-0123456789"
    )
