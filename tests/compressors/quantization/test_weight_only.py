import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from compressors.pruning.filters import L1Filter
from compressors.quantization.torchao_adapter import rounded_by_torchao
from compressors.quantization.weight_only import Int4WeightOnly, Int8WeightOnly, WeightOnly
from core.errors import ConfigError, IncompatibleModel
from models.artifacts import load_artifact, save_artifact
from models.edits import perform
from models.quantized import IntegerLinear, Rounded, round_to_nearest
from models.small.digits import DigitsCNN

ROOT = Path(__file__).resolve().parents[3]
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def weight(columns: int = 64) -> Tensor:
    return torch.randn(8, columns, generator=torch.Generator().manual_seed(0))


def back(found: Rounded, group_size: int | None, columns: int) -> Tensor:
    steps = found.scale.repeat_interleave(group_size or columns, dim=1)
    return found.integers * steps[:, :columns]


@pytest.fixture
def torchao() -> None:
    logging.disable(logging.WARNING)  # torch complains of how torchao is written
    try:
        pytest.importorskip("torchao")
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("bits", "group_size", "columns"), [(8, None, 64), (4, 32, 64), (4, 32, 50), (8, 16, 64)]
)
def test_the_nearest_integers_are_those_of_torchao(
    torchao: None, bits: int, group_size: int | None, columns: int
) -> None:
    options: dict[str, Any] = {"bits": bits, "group_size": group_size}
    ours = round_to_nearest(weight(columns), **options)
    theirs = rounded_by_torchao(weight(columns), algorithm="affine", **options)
    assert torch.equal(ours.integers, theirs.integers)
    torch.testing.assert_close(ours.scale, theirs.scale, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fitted_steps_are_closer_to_the_weights_on_the_whole(torchao: None) -> None:
    model = DigitsCNN()
    exact = model.backbone.head.weight.detach()
    near, fitted = (
        Int4WeightOnly(group_size=32, algorithm=algorithm).plan(model, IMAGES)
        for algorithm in ("nearest", "hqq")
    )
    assert near.model is None
    assert fitted.model is not None
    layer = fitted.model.backbone.head
    assert isinstance(layer, IntegerLinear)
    perform(model, near.edits)
    errors = [float((w - exact).abs().mean()) for w in (layer.weight, model.backbone.head.weight)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(("recipe", "share"), [(Int8WeightOnly(), 0.3), (Int4WeightOnly(), 0.2)])
def test_the_linear_weights_of_a_transformer_shrink(recipe: WeightOnly, share: float) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=8, patch_size=4, in_chans=1, num_classes=10, embed_dim=64, depth=1, num_heads=4
    )
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]

    def linear_bytes() -> int:
        tensors = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if name.rpartition(".")[0] in names and not name.endswith("bias")
        }
        return len(safetensors.torch.save(tensors))

    before = linear_bytes()
    perform(model, recipe.plan(model, IMAGES).edits)
    assert len(names) == 5
    assert linear_bytes() <= share * before


@pytest.mark.slow
def test_a_stored_model_runs_in_a_fresh_process_without_torchao(tmp_path: Path) -> None:
    after = DigitsCNN()
    perform(after, Int4WeightOnly(group_size=32).plan(after, IMAGES).edits)
    stored = save_artifact(tmp_path, after, example_inputs=IMAGES)
    tensors = safetensors.torch.load_file(stored / "weights.safetensors")
    assert tensors["backbone.head.integers"].shape == (240,)  # 480 weights
    code = (
        "import sys, torch; from pathlib import Path; from models.artifacts import load_artifact\n"
        "images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))\n"
        "logits = load_artifact(Path(sys.argv[1]))(images)\n"
        "assert 'torchao' not in sys.modules\n"
        "torch.save(logits, sys.argv[2])"
    )
    out = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", code, str(stored), str(out)], cwd=ROOT, check=True)
    with torch.no_grad():
        expected = after.eval()(IMAGES)
    torch.testing.assert_close(torch.load(out), expected, atol=1e-6, rtol=0)
    assert isinstance(load_artifact(stored).backbone.head, IntegerLinear)


def test_of_a_convolutional_network_the_head_alone_changes() -> None:
    decision = Int8WeightOnly().plan(DigitsCNN(), IMAGES)
    assert list(decision.edits.replaced) == ["backbone.head"]
    assert decision.notes == [
        "head: 0.85 % of all parameters, are integers; convolutions and all else stay in floats",
        "weights only: stored as integers and computed in floats, so no faster",
    ]
    assert decision.achieved == {"weights_only_computed_in_floats": True, "quantized_layers": 1}


def test_a_network_without_linear_layers_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ConfigError, match=r"no layer of op_types.*Linear.*the model has Conv2d"):
        Int8WeightOnly().plan(model, IMAGES)


def test_filters_are_pruned_in_front_of_a_head_of_integers() -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(6, 3)).eval()
    perform(model, Int8WeightOnly().plan(model, IMAGES).edits)
    edits = L1Filter(sparsity=0.5).plan(model, IMAGES).edits
    assert edits.removed == {"0": {"out": _least(model[0])}, "2": {"in": _least(model[0])}}
    # integers lose no columns, so the filters before them are zero instead
    gone = edits.masked["2.weight"].flatten(1).all(dim=1)
    assert gone.nonzero().flatten().tolist() == _least(model[2])


def _least(layer: nn.Conv2d) -> list[int]:
    sums = layer.weight.flatten(1).abs().sum(dim=1)
    return sorted(sums.argsort()[: len(sums) // 2].tolist())


class Scaled(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


def test_what_is_more_than_a_linear_layer_is_left_and_named() -> None:
    plain, scaled = nn.Linear(64, 10), Scaled(64, 10)
    model = nn.Sequential(nn.Flatten(), scaled, nn.Linear(10, 10))
    decision = Int8WeightOnly().plan(model, IMAGES)
    assert list(decision.edits.replaced) == ["2"]
    assert decision.notes[0] == "1: left in floats, more than a linear layer"
    with pytest.raises(IncompatibleModel, match="1: left in floats"):
        Int8WeightOnly().plan(nn.Sequential(nn.Flatten(), scaled), IMAGES)
    assert Int8WeightOnly().plan(nn.Sequential(nn.Flatten(), plain), IMAGES).notes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"group_size": 0}, "group_size is a whole number, at least 1, or null, got 0"),
        ({"group_size": True}, "got True"),
        ({"algorithm": "hqqq"}, "did you mean 'hqq'"),
        ({"sparsity": 0.5}, "unknown key 'sparsity'"),
    ],
)
def test_faults_are_told(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Int4WeightOnly(**options)
