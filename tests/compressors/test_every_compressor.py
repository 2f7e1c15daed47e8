"""What every file of config/compressor promises, whatever it does."""

import copy
import math
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from compressors.base import Compressed, Compressor, Decision
from compressors.deployment import Deployment
from compressors.resources import Resources
from core.errors import ConfigError
from core.preprocessing import Preprocessing
from core.targets import build, resolve
from models.base_model import ClassifierModule
from models.edits import Edits, history, perform
from models.small.digits import DIGITS_PREPROCESSING, WEIGHTS, DigitsCNN
from models.training import fit

CONFIG = Path(__file__).resolve().parents[2] / "config"


def decides_edits(path: Path) -> bool:
    """Whether a recipe keeps the number of bits; test_every_deployment has the others."""
    target = OmegaConf.load(path).get("_target_")
    kind = target and resolve(target, expects=Compressor)
    if not kind or issubclass(kind, Deployment):
        return False
    return not kind.__module__.startswith("compressors.quantization.")


FILES = sorted(path.stem for path in (CONFIG / "compressor").rglob("*.yaml") if decides_edits(path))
FAST = {"l1_filter", "level", "taylor_fo_weight"}
"""Weights, filters, and what needs data: a compression takes a second, so the others are slow."""
CASES = [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in FILES]
SELECTION = {"sparsity", "op_types", "op_names", "exclude", "config_list"}
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 7])
STRENGTHS: dict[str, tuple[float, float]] = {
    "sparsity": (0.3, 0.6),
    "n": (3, 1),
    "final_sparsity": (0.3, 0.6),
    "flops_ratio": (0.7, 0.4),
}
"""Keys that say how much is removed: less, and more."""
TINY: dict[str, dict[str, Any]] = {
    "net_adapt": {"budget": "params", "sparsity_per_iteration": 0.6},
    "sensitivity": {
        "acc_drop_threshold": 1.0,
        "scanned_sparsities": [0.3],
        "sparsity_per_iter": 0.3,
    },
    "simulated_annealing": {"budget": "params", "max_evaluations": 2},
    "amc": {"flops_ratio": 0.5, "train_episode": 2, "lbound": 0.0},
    "auto_compress": {"num_iterations": 1, "admm_iterations": 1, "max_evaluations": 1},
    "admm": {"num_iterations": 2},
    "lottery_ticket": {"prune_iterations": 2, "rewind_to": str(WEIGHTS)},
}
"""What makes a recipe short enough for a test, or has no value in its file."""


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield IMAGES[:count], LABELS[:count]


def score(network: nn.Module) -> float:
    return float((logits(network).argmax(dim=1) == LABELS).double().mean())


QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def given(seed: int = 0) -> Resources:
    """What a recipe may use; the seed decides which image is trained on first."""
    data = [(IMAGES[i : i + 1], LABELS[i : i + 1]) for i in (seed % 2, 1 - seed % 2)]

    def train(network: nn.Module, *, epochs: int, **options: Any) -> None:
        """However long a recipe would train, one pass."""
        fit(network, data, epochs=min(epochs, 1), **{"seed": seed, "trainer": QUIET, **options})

    return Resources(batches=batches, score=score, train=train, seed=seed)


RESOURCES = given()


def recipe(name: str, **changed: Any) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        node = compose(overrides=[f"+compressor={name}"]).compressor
    return {**OmegaConf.to_container(node), **TINY.get(name, {}), **changed}


def compressor(name: str, **changed: Any) -> Compressor:
    return build(recipe(name, **changed), expects=Compressor)


class TinyViT(ClassifierModule):
    """A vision transformer for the images of DigitsCNN."""

    def load_backbone(self) -> nn.Module:
        return VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=10, embed_dim=16, depth=2, num_heads=4
        )

    def default_preprocessing(self) -> Preprocessing:
        return DIGITS_PREPROCESSING


def model(name: str) -> ClassifierModule:
    """A network that has what a recipe treats."""
    torch.manual_seed(0)
    transformer = "Attention" in compressor(name).treatable
    return TinyViT() if transformer else DigitsCNN(pretrained=False)


def strengths(name: str) -> list[dict[str, float]]:
    """Less and more of what a recipe does."""
    key = next(key for key in STRENGTHS if recipe(name).get(key) is not None)
    return [{key: value} for value in STRENGTHS[key]]


def plan(name: str, network: nn.Module, **changed: Any) -> Decision:
    return compressor(name, **changed).plan(network, IMAGES, RESOURCES)


def steps(decision: Decision) -> tuple[Edits, ...]:
    """All edits of a decision, also where the model came out already."""
    return (decision.edits,) if decision.model is None else history(decision.model)


def left(name: str, **changed: Any) -> int:
    """Weights that are neither gone nor zero after a recipe."""
    network = model(name)
    decision = plan(name, network, **changed)
    if decision.model is None:
        perform(network, decision.edits)
    return sum(int(p.count_nonzero()) for p in (decision.model or network).parameters())


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    """Names of the tensors that are not equal to the last bit."""
    mine, its = one.state_dict(), other.state_dict()
    assert mine.keys() == its.keys()
    return [name for name in mine if not torch.equal(mine[name], its[name])]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, ClassifierModule, Compressed]:
    """Name of a recipe, a model, and what the recipe made of it."""
    before = model(request.param)
    return request.param, before, compressor(request.param).compress(before, IMAGES, RESOURCES)


def test_a_file_says_its_name_and_has_the_common_keys() -> None:
    for name in FILES:
        node = recipe(name)
        assert node["name"] == name
        assert node.keys() >= SELECTION
        assert all(node[key] > 0 for key in STRENGTHS if node.get(key) is not None)
        text = (CONFIG / "compressor" / f"{name}.yaml").read_text()
        assert text.startswith("#")
        assert "Expect:" in text


def test_the_logits_keep_their_width(case: tuple[str, ClassifierModule, Compressed]) -> None:
    assert logits(case[2].model).shape == (2, 10)
    assert type(case[2].model) is type(case[1])


def test_the_input_stays_bit_identical(case: tuple[str, ClassifierModule, Compressed]) -> None:
    before, untouched = case[1], model(case[0])
    tensors = dict(untouched.named_parameters()) | dict(untouched.named_buffers())
    assert before.baseline is None
    assert history(before) == ()
    assert all(
        torch.equal(t, tensors[name])
        for name, t in [*before.named_parameters(), *before.named_buffers()]
    )


def test_the_same_recipe_gives_the_same_model(
    case: tuple[str, ClassifierModule, Compressed],
) -> None:
    name, before, result = case
    again = plan(name, before)
    assert steps(again) == history(result.model)
    if again.model is None:
        return
    assert differing(again.model, result.model) == []
    if "train" in compressor(name).needs:
        other = compressor(name).plan(before, IMAGES, given(seed=1)).model
        assert other is not None
        assert differing(other, result.model)


def test_it_changes_what_it_claims(case: tuple[str, ClassifierModule, Compressed]) -> None:
    _, before, result = case
    names = {
        n for step in history(result.model) for n in (*step.removed, *step.masked, *step.replaced)
    }
    assert names
    assert not torch.equal(logits(result.model), logits(copy.deepcopy(before)))
    assert result.model.baseline is before
    if result.edits.is_empty:  # it was trained as well
        return
    assert history(result.model) == (result.edits,)
    changed = {
        name
        for name, t in result.model.state_dict().items()
        if name not in before.state_dict()
        or t.shape != before.state_dict()[name].shape
        or not torch.equal(t, before.state_dict()[name])
    }
    assert all(any(tensor.startswith(name) for name in names) for tensor in changed)


def test_the_record_is_complete(case: tuple[str, ClassifierModule, Compressed]) -> None:
    name, _, result = case
    achieved = result.report.achieved
    quantities = ("params", "nonzero_params", "macs", "weight_bytes")
    wanted = {f"{q}_{when}" for q in quantities for when in ("before", "after")}
    assert achieved.keys() >= wanted | {"removed", "sparsity", "latency_ratio"}
    assert all(math.isfinite(value) for value in achieved.values())
    assert achieved["params_after"] == sum(p.numel() for p in result.model.parameters())
    assert achieved["nonzero_params_after"] < achieved["nonzero_params_before"]
    assert result.report.requested["compressor"] == name
    (entry,) = result.report.requested["entries"]
    assert entry["sparsity"] == (recipe(name)["sparsity"] or entry["sparsity"])
    assert all(note.strip() and "  " not in note for note in result.report.notes)


@pytest.mark.parametrize("name", CASES)
def test_more_sparsity_leaves_less(name: str) -> None:
    less, more = (left(name, **changed) for changed in strengths(name))
    assert 0 < more < less < sum(p.numel() for p in model(name).parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_frozen_model_is_compressed_alike(name: str) -> None:
    frozen = model(name).requires_grad_(False)
    if "train" in compressor(name).needs:
        with pytest.raises(ConfigError, match="frozen"):
            plan(name, frozen)
        return
    assert steps(plan(name, frozen)) == steps(plan(name, model(name)))


@pytest.mark.parametrize("name", CASES)
def test_what_is_excluded_stays(name: str) -> None:
    first = "block1.*" if isinstance(model(name), DigitsCNN) else "blocks.0.*"
    done = steps(plan(name, model(name), exclude=[first]))
    names = [n for e in done for n in (*e.masked, *e.replaced)]
    names += [n for e in done for n, sides in e.removed.items() if "out" in sides]
    assert not [name for name in names if fnmatch(name, f"backbone.{first}")]
    assert not all(e.is_empty for e in done)
