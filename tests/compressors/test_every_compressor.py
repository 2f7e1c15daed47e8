"""What every file of config/compressor promises, whatever it does."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from compressors.base import Compressed, Compressor
from core.targets import build
from models.edits import history
from models.small.digits import DigitsCNN

CONFIG = Path(__file__).resolve().parents[2] / "config"
FILES = sorted(path.stem for path in (CONFIG / "compressor").rglob("*.yaml") if path.stem != "none")
SELECTION = {"sparsity", "op_types", "op_names", "exclude", "config_list"}
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def recipe(name: str, **changed: Any) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        node = compose(overrides=[f"+compressor={name}"]).compressor
    return {**OmegaConf.to_container(node), **changed}


def compressor(name: str, **changed: Any) -> Compressor:
    return build(recipe(name, **changed), expects=Compressor)


def model() -> DigitsCNN:
    torch.manual_seed(0)
    return DigitsCNN(pretrained=False)


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest) -> tuple[str, DigitsCNN, Compressed]:
    """Name of a recipe, a model, and what the recipe made of it."""
    before = model()
    return request.param, before, compressor(request.param).compress(before, IMAGES)


def test_a_file_says_its_name_and_has_the_common_keys() -> None:
    for name in FILES:
        node = recipe(name)
        assert node["name"] == name
        assert node.keys() >= SELECTION
        assert 0 < node["sparsity"] < 1
        text = (CONFIG / "compressor" / f"{name}.yaml").read_text()
        assert text.startswith("#")
        assert "Expect:" in text


def test_the_logits_keep_their_width(case: tuple[str, DigitsCNN, Compressed]) -> None:
    assert logits(case[2].model).shape == (2, 10)
    assert type(case[2].model) is DigitsCNN


def test_the_input_stays_bit_identical(case: tuple[str, DigitsCNN, Compressed]) -> None:
    before, untouched = case[1], model()
    tensors = dict(untouched.named_parameters()) | dict(untouched.named_buffers())
    assert before.baseline is None
    assert history(before) == ()
    assert all(
        torch.equal(t, tensors[name])
        for name, t in [*before.named_parameters(), *before.named_buffers()]
    )


def test_the_same_recipe_gives_the_same_model(case: tuple[str, DigitsCNN, Compressed]) -> None:
    name, before, result = case
    assert compressor(name).plan(before, IMAGES).edits == result.edits


def test_it_changes_what_it_claims(case: tuple[str, DigitsCNN, Compressed]) -> None:
    _, before, result = case
    names = {*result.edits.removed, *result.edits.masked}
    assert names
    assert not torch.equal(logits(result.model), logits(copy.deepcopy(before)))
    assert history(result.model) == (result.edits,)
    assert result.model.baseline is before
    changed = {
        name
        for name, t in result.model.state_dict().items()
        if t.shape != before.state_dict()[name].shape
        or not torch.equal(t, before.state_dict()[name])
    }
    assert all(any(tensor.startswith(name) for name in names) for tensor in changed)


def test_the_record_is_complete(case: tuple[str, DigitsCNN, Compressed]) -> None:
    name, _, result = case
    achieved = result.report.achieved
    quantities = ("params", "nonzero_params", "macs", "weight_bytes")
    wanted = {f"{q}_{when}" for q in quantities for when in ("before", "after")}
    assert achieved.keys() == wanted | {"removed", "sparsity", "latency_ratio"}
    assert all(math.isfinite(value) for value in achieved.values())
    assert achieved["params_after"] == sum(p.numel() for p in result.model.parameters())
    assert achieved["nonzero_params_after"] < achieved["nonzero_params_before"]
    assert result.report.requested["compressor"] == name
    assert result.report.requested["entries"] == [{"sparsity": recipe(name)["sparsity"]}]
    assert all(note.strip() and "  " not in note for note in result.report.notes)


@pytest.mark.parametrize("name", FILES)
def test_more_sparsity_leaves_less(name: str) -> None:
    edits = [compressor(name, sparsity=s).plan(model(), IMAGES).edits.to_json() for s in (0.3, 0.6)]
    assert len(str(edits[0]["removed"])) <= len(str(edits[1]["removed"]))
    assert edits[0] != edits[1]


@pytest.mark.parametrize("name", FILES)
def test_a_frozen_model_is_compressed_alike(name: str) -> None:
    frozen = model().requires_grad_(False)
    assert (
        compressor(name).plan(frozen, IMAGES).edits == compressor(name).plan(model(), IMAGES).edits
    )


@pytest.mark.parametrize("name", FILES)
def test_what_is_excluded_stays(name: str) -> None:
    edits = compressor(name, exclude=["block1.*"]).plan(model(), IMAGES).edits
    kept = [n for n in edits.masked if n.startswith("backbone.block1")]
    kept += [n for n, s in edits.removed.items() if n.startswith("backbone.block1") and "out" in s]
    assert kept == []
    assert not edits.is_empty
