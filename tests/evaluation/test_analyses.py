"""How a configuration says what to look at."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from compressors.pruning.criteria import FPGM
from compressors.pruning.filters import L1Filter
from core.app import CONFIG
from core.errors import ConfigError
from evaluation.analyses import _Criterion, sensitivity_faults
from evaluation.artifact import validate_compression
from evaluation.recipe import recipe_of
from models.examples import example_images
from models.small.digits import DigitsCNN


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        return compose("compress_defaults", overrides=list(overrides))


def test_without_a_recipe_filters_go_by_their_magnitudes() -> None:
    made = _Criterion(None)(sparsity=0.25, op_names=["conv"])
    assert isinstance(made, L1Filter)
    assert made.entries == {"compressor": {"sparsity": 0.25, "op_names": ["conv"]}}


def test_a_recipe_says_which_layers_and_what_they_are_tied_to_stays_excluded() -> None:
    line = "compressor.config_list=[{sparsity: 0.1, op_names: [block1.*, block2.conv1]}]"
    config = composed("compressor=fpgm", line, "compressor.exclude=[block1.conv2]")
    criterion = _Criterion(recipe_of(config)["compressor"])
    model = DigitsCNN(pretrained=False).eval()
    everything = criterion(sparsity=0.5)
    assert everything.layers(model, example_images(model)) == ["block1.conv1", "block2.conv1"]
    one = criterion(sparsity=0.5, op_names=["block2.conv1"])
    assert isinstance(one, FPGM)
    assert one.entries == {
        "compressor": {"sparsity": 0.5, "op_names": ["block2.conv1"]},
        "compressor.exclude": {"op_names": ["block1.conv2"], "exclude": True},
    }


def test_a_recipe_without_a_sparsity_is_none_to_look_with() -> None:
    assert sensitivity_faults(composed("compressor=fpgm", "compressor@then=ort")) == []
    (fault,) = sensitivity_faults(composed("compressor=ort"))
    assert "got ort" in fault


def test_data_have_to_be_there_only_where_they_are_looked_at() -> None:
    away = ("datasets=[cifar10]", "dataset_library.cifar10.root=/nowhere", "dry_run=true")
    validate_compression(composed("compressor=l1_filter", *away))
    with pytest.raises(ConfigError, match=r"tuning.dataset=cifar10.*/nowhere"):
        validate_compression(composed("compressor=taylor_fo_weight", *away))
