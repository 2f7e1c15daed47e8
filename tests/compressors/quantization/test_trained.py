"""Recipes that train in few bits."""

from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from compressors.quantization.bnn import BNN
from compressors.quantization.dorefa import DoReFa
from compressors.quantization.qat import QAT
from compressors.quantization.trained import TrainedInFewBits, first_layer
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from models.deployed import DeployedClassifier
from models.edits import Edits, enforce, history, perform
from models.simulated import Binary, FakeQuantized, HardTanh, Simulated
from models.small.digits import DigitsCNN

IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)
asked: list[dict[str, Any]] = []


def train(network: nn.Module, *, epochs: int, after_step: Any = None, **options: Any) -> None:
    """Gradient descent by hand: Lightning takes longer to start than this to end."""
    asked.append({"epochs": epochs, **options})
    network.train()
    if after_step is not None:
        after_step(network)
    for _ in range(epochs):
        network.zero_grad()
        nn.functional.cross_entropy(network(IMAGES), LABELS).backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
        if after_step is not None:
            after_step(network)
    network.zero_grad()
    network.eval()


RESOURCES = Resources(
    batches=lambda count: iter([(IMAGES[:count], LABELS[:count])]), score=lambda _: 1.0, train=train
)


def trained(recipe: TrainedInFewBits, model: nn.Module | None = None) -> nn.Module:
    made = recipe.plan(model or DigitsCNN(), IMAGES[:2], RESOURCES).model
    assert made is not None
    return made


def simulated(model: nn.Module) -> dict[str, Simulated]:
    return {
        name.removeprefix("backbone."): part
        for name, part in model.named_modules()
        if isinstance(part, Simulated)
    }


def test_layers_and_types_have_the_bits_of_their_entry() -> None:
    entries = [
        {"op_types": ["Conv2d"]},
        {"op_names": ["head"], "quant_bits": {"weight": 3, "input": 5}},
        {"op_names": ["conv"], "quant_types": ["weight"]},
    ]
    parts = simulated(trained(QAT(config_list=entries, deploy=None, epochs=1)))
    found = {name: parts[name] for name in ("conv", "block1.conv1", "head")}
    assert all(isinstance(part, FakeQuantized) for part in found.values())
    tops = {name: (p.weight_levels, p.input_levels) for name, p in found.items()}  # type: ignore[attr-defined]
    assert tops == {"conv": (64, None), "block1.conv1": (64, 255), "head": (3, 31)}


def test_weights_are_trained_and_ranges_are_seen() -> None:
    asked.clear()
    before, after = DigitsCNN(), trained(QAT(deploy=None, epochs=2, learning_rate=0.5))
    assert asked == [{"epochs": 2, "learning_rate": 0.5}]
    part = simulated(after)["conv"]
    assert isinstance(part, FakeQuantized)
    assert not torch.equal(part.layer.weight, before.backbone.conv.weight)
    normal = before.normalise(IMAGES)
    assert (float(part.low), float(part.high)) == (float(normal.min()), float(normal.max()))
    assert int(part.steps) == 2
    assert len(history(after)) == 1
    assert torch.equal(after.backbone.bn.running_mean, before.backbone.bn.running_mean)


def test_what_a_step_before_has_zeroed_stays_zero() -> None:
    model = DigitsCNN()
    mask = torch.zeros_like(model.backbone.conv.weight, dtype=torch.bool)
    mask[:, :, 0] = True
    perform(
        model,
        Edits(masked={"backbone.conv.weight": mask, "backbone.head.bias": mask[:10, 0, 0, 0]}),
    )
    after = trained(QAT(deploy=None, epochs=1, op_types=["Conv2d"]), model)
    layer = simulated(after)["conv"]
    assert not layer.layer.weight[mask].any()
    assert layer.layer.weight[~mask].all()
    with torch.no_grad():
        layer.layer.weight.fill_(1.0)  # as a fine-tuning behind it would
    enforce(after)
    assert torch.equal(layer.layer.weight == 0, mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_the_integer_file_has_the_trained_weights_and_ranges() -> None:
    after = trained(QAT(deploy=None, epochs=1))
    made = trained(QAT(epochs=1, samples=8))
    assert isinstance(made, DeployedClassifier)
    numbers = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(made.session.path).graph.initializer
    }
    part = simulated(after)["block1.conv1"]
    assert isinstance(part, FakeQuantized)
    steps = {
        float(value)
        for name, value in numbers.items()
        if name.endswith("_scale") and value.ndim == 0
    }
    expected = float(part.high.clamp(min=0) - part.low.clamp(max=0)) / 255
    assert min(abs(step - expected) for step in steps) < 1e-6
    logits, simulation = made(IMAGES), after(IMAGES)
    assert (logits - simulation).abs().max() < 0.05 * simulation.abs().max()


@pytest.mark.parametrize("recipe", [DoReFa(epochs=1), BNN(epochs=1)], ids=["dorefa", "bnn"])
def test_the_first_layer_and_the_head_stay_in_floats(recipe: TrainedInFewBits) -> None:
    decision = recipe.plan(DigitsCNN(), IMAGES[:2], RESOURCES)
    assert decision.model is not None
    assert not simulated(decision.model).keys() & {"conv", "head"}
    assert len(simulated(decision.model)) == 8
    assert decision.achieved == {"simulated": True, "quantized_layers": 8}
    told = " ".join(decision.notes)
    assert "the first layer conv stays in floats; name it to treat it" in told
    assert "(head) stays as it is; name it to treat it" in told


def test_the_first_layer_and_the_head_are_treated_where_they_are_named() -> None:
    made = trained(
        DoReFa(epochs=1, quant_bits={"weight": 1, "input": 2}, op_names=["conv", "head"])
    )
    assert simulated(made).keys() == {"conv", "head"}
    head = made.backbone.head
    assert head.weight.abs().unique().tolist() == [float(head.layer.weight.detach().abs().mean())]


def test_every_relu_becomes_a_hardtanh_and_weights_stay_where_signs_have_a_gradient() -> None:
    model = DigitsCNN()
    with torch.no_grad():
        model.backbone.block1.conv1.weight[0] = 3.0
    made = trained(BNN(epochs=1), model)
    kinds = [type(part) for part in made.modules()]
    assert (kinds.count(HardTanh), kinds.count(nn.ReLU), kinds.count(Binary)) == (7, 0, 8)
    assert made.backbone.block1.conv1.layer.weight.max() == 1
    assert model.backbone.block1.conv1.weight.max() == 3


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x).relu()).flatten(1))


def test_signs_of_what_is_never_negative_are_refused() -> None:
    with pytest.raises(IncompatibleModel, match="two: nothing negative comes in"):
        BNN(epochs=1).plan(Functional(), IMAGES[:2], RESOURCES)


@pytest.mark.parametrize("kind", [DoReFa, BNN])
def test_a_network_of_first_layer_and_head_has_nothing_to_treat(
    kind: type[TrainedInFewBits],
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    with pytest.raises(IncompatibleModel, match="the first layer 0 stays in floats; name it"):
        kind(epochs=1).plan(model, IMAGES[:2], RESOURCES)


@pytest.mark.parametrize("kind", [QAT, DoReFa, BNN])
def test_frozen_layers_are_refused(kind: type[TrainedInFewBits]) -> None:
    frozen = DigitsCNN().requires_grad_(False)
    with pytest.raises(ConfigError, match=r"frozen, and .* trains in few bits; unfreeze them"):
        kind(epochs=1).plan(frozen, IMAGES[:2], RESOURCES)


def test_the_first_layer_is_the_first_that_runs() -> None:
    model = nn.ModuleDict({"last": nn.Linear(4, 2), "first": nn.Linear(4, 4)})
    model.forward = lambda x: model["last"](model["first"](x))  # type: ignore[method-assign]
    assert first_layer(model, torch.zeros(1, 4)) == "first"


def test_the_length_of_the_training_is_said_before_it_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="compressors.forecast"):
        trained(DoReFa(name="few", epochs=2))
    assert caplog.messages == ["few: 2 epochs of training to come"]


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (QAT, {"quant_bits": 4}, "deploy=onnxruntime runs weights and inputs of 8 bits; pass"),
        (QAT, {"quant_types": ["weight"]}, "deploy=onnxruntime runs weights and inputs"),
        (QAT, {"quant_bits": 1, "deploy": None}, "quant_bits is an int from 2 to 8, got 1"),
        (QAT, {"quant_types": ["output"]}, r"quant_types are some of \['weight', 'input'\]"),
        (QAT, {"deploy": "openvino"}, "unknown compressor.deploy"),
        (QAT, {"ema_decay": 1}, r"ema_decay is a number in \[0, 1\)"),
        (QAT, {"quant_start_step": -1}, "quant_start_step is a number of steps"),
        (QAT, {"reduce_range": 0}, "reduce_range is true or false"),
        (QAT, {"samples": 0}, "samples is an int of at least 1"),
        (QAT, {"epochs": 0}, "epochs is a whole number, at least 1"),
        (DoReFa, {"quant_bits": 0}, "quant_bits is an int from 1 to 8, got 0"),
        (DoReFa, {"quant_bits": {"weight": 1}}, "quant_bits is a number or {weight"),
        (BNN, {"learning_rate": 0}, "learning_rate is above 0, or null"),
        (BNN, {"sparsity": 0.5}, "unknown key 'sparsity'"),
    ],
)
def test_faults_are_told(kind: type[Any], options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        kind(**options)
