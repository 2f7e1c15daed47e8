"""What every recipe promises that spends fewer bits, or whose result another runtime runs."""

import copy
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compressors.base import Compressed, Compressor
from compressors.deployment import Deployment
from compressors.quantization import onnx_int8, openvino_int8
from compressors.quantization.int8 import Int8Dynamic, Int8Static
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from core.preprocessing import Preprocessing
from core.targets import build, resolve
from models import onnx_runtime, openvino_runtime
from models.artifacts import load_artifact, save_artifact
from models.base_model import ClassifierModule
from models.deployed import DeployedClassifier
from models.training import fit

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "config" / "compressor"
WITH_OPENVINO = bool(importlib.util.find_spec("openvino") and importlib.util.find_spec("nncf"))
needs_openvino = pytest.mark.skipif(not WITH_OPENVINO, reason="the extra openvino is missing")
IMAGES = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(64) % 10


class Small(nn.Module):
    """Two weighted layers, small enough to write its graph by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(1))


class SmallClassifier(ClassifierModule):
    macs = 36 * 36 + 1440

    def load_backbone(self) -> nn.Module:
        torch.manual_seed(0)
        return Small()

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(8, 8), mean=(0.5,), std=(0.25,))


class DeepClassifier(SmallClassifier):
    """Has something between its first layer and its head."""

    macs = 36 * 36 + 16 * 144 + 640

    def load_backbone(self) -> nn.Module:
        torch.manual_seed(0)
        first = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
        second = [nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
        return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64, 10))


def network(recipe: Compressor) -> SmallClassifier:
    """One that has what a recipe treats."""
    return DeepClassifier() if recipe.spares_heads else SmallClassifier()


def graph_of(model: ClassifierModule) -> onnx.ModelProto:
    """What the exporter of torch would write; that takes seconds."""
    tensors = dict(model.named_parameters()) | {
        "mean": torch.tensor(model.preprocessing.mean),
        "std": torch.tensor(model.preprocessing.std),
    }
    numbers = [numpy_helper.from_array(t.detach().numpy(), n) for n, t in tensors.items()]
    conv, head = ([f"backbone.{name}.weight", f"backbone.{name}.bias"] for name in ("conv", "head"))
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["shifted"], name="sub"),
        helper.make_node("Div", ["shifted", "std"], ["normal"], name="div", doc_string="of /home"),
        helper.make_node("Conv", ["normal", *conv], ["seen"], name="conv"),
        helper.make_node("Relu", ["seen"], ["active"], name="relu"),
        helper.make_node("Flatten", ["active"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", *head], ["logits"], name="gemm", transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("images", [1, 8, 8]), ("logits", [10]))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], numbers)
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture(autouse=True, scope="module")
def exporter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (onnx_int8, openvino_int8, onnx_runtime, openvino_runtime):
            patch.setattr(module, "onnx_graph", graph_of)
        yield


def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(IMAGES[:count].split(16), LABELS[:count].split(16), strict=True)


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("nothing here is trained")


def train(network: nn.Module, *, epochs: int, **options: Any) -> None:
    """However long a recipe would train, one pass."""
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    fit(network, [(IMAGES, LABELS)], epochs=min(epochs, 1), trainer=quiet, **options)


RESOURCES = Resources(batches=batches, score=lambda _: 1.0, train=train)


def recipe(name: str) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(FOLDER.parent)):
        node = compose(overrides=[f"+compressor={name}"]).compressor
    return OmegaConf.to_container(node)


def changes_no_structure(path: Path) -> bool:
    target = OmegaConf.load(path).get("_target_")
    kind = target and resolve(target, expects=Compressor)
    return bool(kind) and (spends_fewer_bits(kind) or issubclass(kind, Deployment))


def spends_fewer_bits(kind: type[Compressor]) -> bool:
    """Whether logits change at all: another runtime alone may give them to the last bit."""
    return kind.__module__.startswith("compressors.quantization.")


FILES = sorted(path.stem for path in FOLDER.glob("*.yaml") if changes_no_structure(path))
FAST = {"int8_dynamic", "int8_static", "naive", "ort"}
CASES = [
    *(
        pytest.param(name, {}, id=name, marks=[] if name in FAST else pytest.mark.slow)
        for name in FILES
        if name != "openvino"
    ),
    pytest.param("openvino", {}, id="openvino", marks=[needs_openvino, pytest.mark.slow]),
    pytest.param(
        "int8_static",
        {"backend": "openvino"},
        id="int8_static-openvino",
        marks=[needs_openvino, pytest.mark.slow],
    ),
]


def compressor(name: str, **changed: Any) -> Compressor:
    return build({**recipe(name), **changed}, expects=Compressor)


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_its_name_and_what_to_expect(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    assert recipe(name)["name"] == name
    assert text.startswith("#")
    assert "Expect:" in text


@pytest.mark.filterwarnings(
    "ignore:.* is loaded for inference only"
)  # SmallClassifier is of a test
@pytest.mark.parametrize(("name", "changed"), CASES)
def test_it_does_what_every_recipe_does(name: str, changed: dict[str, Any], tmp_path: Path) -> None:
    recipe = compressor(name, **changed)
    before = network(recipe)
    made = [recipe.compress(before, IMAGES[:2], RESOURCES) for _ in range(2)]
    result = made[0]
    after = result.model
    # the input is as it was, and what came out knows it
    assert all(
        torch.equal(t, network(recipe).state_dict()[n]) for n, t in before.state_dict().items()
    )
    assert after.baseline is before
    # the function is nearly the same or was trained, twice the same, and the same for a copy
    assert logits(after).shape == (64, 10)
    off = float((logits(after) - logits(before)).abs().max() / logits(before).abs().max())
    few_bits = result.report.requested.get("bits", 8) < 8
    assert off > 0 or not spends_fewer_bits(type(recipe))
    assert "train" in recipe.needs or off < (0.3 if few_bits else 0.1)
    assert torch.equal(logits(made[1].model), logits(after))
    assert torch.equal(logits(copy.deepcopy(after)), logits(after))
    assert made[1].model.fingerprint() == after.fingerprint()
    # the stored model needs no recipe and no file from outside
    expected = logits(after)
    stored = save_artifact(tmp_path, after, example_inputs=IMAGES[:2])
    del made, after
    torch.testing.assert_close(logits(load_artifact(stored)), expected, atol=1e-6, rtol=0)
    # the record is complete; the counts are those of the network it was made of
    achieved = result.report.achieved
    assert all(math.isfinite(value) for value in achieved.values())
    params = sum(p.numel() for p in before.parameters())
    assert achieved["params_after"] == achieved["params_before"] == params
    assert achieved["macs_after"] == achieved["macs_before"] == before.macs
    assert result.report.requested["compressor"] == name
    assert all(note.strip() and "  " not in note for note in result.report.notes)


def int8(**options: Any) -> tuple[DeployedClassifier, Compressed]:
    result = Int8Static(samples=32, **options).compress(SmallClassifier(), IMAGES[:2], RESOURCES)
    assert isinstance(result.model, DeployedClassifier)
    return result.model, result


def types_in(model: DeployedClassifier) -> list[str]:
    return [node.op_type for node in onnx.load(model.session.path).graph.node]


def test_integers_are_unsigned_activations_and_signed_weights_per_channel() -> None:
    model, result = int8(reduce_range=False)
    numbers = {t.name: t for t in onnx.load(model.session.path).graph.initializer}
    weight = numbers["backbone.conv.weight_quantized"]
    assert (weight.data_type, list(weight.dims)) == (TensorProto.INT8, [4, 1, 3, 3])
    assert list(numbers["backbone.conv.weight_scale"].dims) == [4]
    assert numbers["normal_zero_point"].data_type == TensorProto.UINT8
    assert result.report.achieved["quantized_layers"] == 2
    assert "backbone.conv.weight" not in numbers
    assert any("saturate" in note for note in result.report.notes)
    assert types_in(model)[:2] == ["Sub", "Div"]  # the normalisation is in the graph


def test_weights_are_rounded_to_half_a_step() -> None:
    model, _ = int8(reduce_range=False)
    numbers = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(model.session.path).graph.initializer
    }
    scale = numbers["backbone.conv.weight_scale"].reshape(4, 1, 1, 1)
    back = numbers["backbone.conv.weight_quantized"].astype(np.float32) * scale
    exact = SmallClassifier().backbone.conv.weight.detach().numpy()
    assert (np.abs(back - exact) <= scale / 2 + 1e-7).all()
    assert np.abs(numbers["backbone.conv.weight_quantized"]).max() >= 126


def test_seven_bits_leave_room_for_sums() -> None:
    model, _ = int8()
    numbers = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(model.session.path).graph.initializer
    }
    assert np.abs(numbers["backbone.conv.weight_quantized"]).max() <= 64


def test_an_excluded_layer_stays_in_floats() -> None:
    model, result = int8(exclude=["head"])
    names = {t.name for t in onnx.load(model.session.path).graph.initializer}
    assert "backbone.head.weight" in names
    assert "backbone.conv.weight_quantized" in names
    assert result.report.achieved["quantized_layers"] == 1


def test_calibration_sees_as_many_samples_as_it_was_told() -> None:
    asked: list[int] = []

    def counted(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        asked.append(count)
        yield from batches(count)

    given = Resources(batches=counted, score=lambda _: 1.0, train=no_training)
    Int8Static(samples=48).plan(SmallClassifier(), IMAGES[:2], given)
    assert asked == [48]


def scored(by_layers: Callable[[set[str]], float]) -> Resources:
    """A score that depends on which layers are integers."""

    def score(model: nn.Module) -> float:
        if not isinstance(model, DeployedClassifier):
            return 0.9
        names = {t.name for t in onnx.load(model.session.path).graph.initializer}
        return by_layers({n for n in ("conv", "head") if f"backbone.{n}.weight" not in names})

    return Resources(batches=batches, score=score, train=no_training, said=("optimistic",))


def test_the_worst_layer_is_left_in_floats() -> None:
    lost = {"conv": 0.2, "head": 0.05}
    given = scored(lambda layers: 0.9 - sum(lost[name] for name in layers))
    recipe = Int8Static(samples=16, skip_sensitive="auto", max_loss=0.1)
    result = recipe.compress(SmallClassifier(), IMAGES[:2], given)
    names = {t.name for t in onnx.load(result.model.session.path).graph.initializer}
    assert "backbone.conv.weight" in names
    assert "backbone.head.weight" not in names
    assert result.report.achieved["score_loss"] == pytest.approx(0.05)
    assert result.report.achieved["quantized_layers"] == 1
    assert result.report.achieved["scored"] == 5  # floats, all, each alone, without the worst
    assert "conv stay in floats: the loss on the score part is 0.0500" in result.report.notes
    assert "optimistic" in result.report.notes


def test_nothing_is_skipped_where_the_loss_is_allowed() -> None:
    recipe = Int8Static(samples=16, skip_sensitive="auto", max_loss=0.1)
    result = recipe.compress(SmallClassifier(), IMAGES[:2], scored(lambda _: 0.8))
    assert result.report.achieved["quantized_layers"] == 2
    assert result.report.achieved["scored"] == 2


def test_a_loss_that_no_choice_of_layers_avoids_is_an_error() -> None:
    recipe = Int8Static(samples=16, skip_sensitive="auto", max_loss=0.1)
    with pytest.raises(IncompatibleModel, match=r"still loses 0\.4000: more than max_loss=0\.1"):
        recipe.plan(SmallClassifier(), IMAGES[:2], scored(lambda _: 0.5))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backend": "onxruntime"}, "did you mean 'onnxruntime'"),
        ({"samples": 0}, "samples is an int of at least 1"),
        ({"calibration": "mse"}, "unknown compressor.calibration"),
        ({"backend": "openvino", "calibration": "entropy"}, "OpenVINO knows minmax alone"),
        ({"reduce_range": 1}, "reduce_range is true or false"),
        ({"skip_sensitive": True}, "skip_sensitive is auto or null"),
        ({"max_loss": 1}, r"max_loss is a number in \[0, 1\)"),
        ({"sparsity": 0.5}, "unknown key 'sparsity'"),
    ],
)
def test_faults_of_options_are_told(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Int8Static(**options)


def test_dynamic_integers_are_those_of_linear_layers() -> None:
    result = Int8Dynamic().compress(SmallClassifier(), IMAGES[:2])
    assert "MatMulInteger" in types_in(result.model)
    assert types_in(result.model).count("Conv") == 1
    told = "head: 97 % of all parameters, are integers; convolutions and all else stay in floats"
    assert told in result.report.notes


def test_a_deployed_model_is_not_compressed_again() -> None:
    with pytest.raises(IncompatibleModel, match="deploy it in the slot `then`"):
        compressor("ort").plan(int8()[0], IMAGES[:2])


def test_the_files_go_with_the_last_copy() -> None:
    model, result = int8()
    path, twin = model.session.path, copy.deepcopy(model)
    del model, result
    assert path.is_file()
    del twin
    assert not path.parent.exists()


def test_what_is_written_has_no_notes() -> None:
    model = compressor("ort").compress(SmallClassifier(), IMAGES[:2]).model
    graph = onnx.load(model.session.path)
    assert b"/home" in graph_of(SmallClassifier()).SerializeToString()
    assert b"/home" not in graph.SerializeToString()
    assert len(graph.graph.value_info) == 0


@pytest.mark.slow
def test_a_stored_integer_model_runs_in_a_fresh_process(tmp_path: Path) -> None:
    model, _ = int8()
    stored = save_artifact(tmp_path, model, example_inputs=IMAGES[:2])
    code = (
        "import sys, torch; from pathlib import Path; from models.artifacts import load_artifact\n"
        "images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))\n"
        "torch.save(load_artifact(Path(sys.argv[1]))(images), sys.argv[2])"
    )
    out = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", code, str(stored), str(out)], cwd=ROOT, check=True)
    assert torch.equal(torch.load(out), logits(model))
