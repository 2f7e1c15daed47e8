"""Two models compared by their features and layer by layer."""

import copy
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from core.errors import NotApplicable
from core.preprocessing import Preprocessing
from measurements.paired.representation import FeatureSimilarity, LayerError, LayerSimilarity
from recording.columns import record_columns
from recording.loop import Batch
from recording.records import Records

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randn(100, 1, 4, 4, generator=RANDOM)
FEATURES = torch.randn(80, 6, generator=RANDOM)
ROTATION = torch.linalg.qr(torch.randn(6, 6, generator=RANDOM))[0]


class Net(nn.Module):
    """Convolution, ReLU in place, convolution, mean, head."""

    baseline: "Net | None" = None
    runtime = "torch"
    preprocessing = Preprocessing(size=(4, 4))

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2, 2),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images)
        return logits


class Giving:
    """Images in batches of `size`; features by model."""

    def __init__(self, images: Tensor = IMAGES, size: int = 7, features: Any = None) -> None:
        self.pictures, self.size, self.features = images, size, features

    def images(self, model: nn.Module, name: str, split: str, *, samples: int) -> Any:
        for some in self.pictures[:samples].split(self.size):
            none = torch.zeros(len(some), dtype=torch.int64)
            yield Batch(images=some, labels=none, ids=none)

    def records(self, model: Any, *_: Any, **__: Any) -> Records:
        labels = torch.zeros(len(model.features), dtype=torch.int64)
        logits = model.features.sum(dim=1, keepdim=True).expand(-1, 2)
        ids = {"sample_id": torch.arange(len(labels)), "label": labels}
        parts = {"features": lambda: model.features}
        return Records({**ids, **record_columns(logits, labels)}, classes=2, parts=parts)


def found(kind: type, model: Any, baseline: Any, recorder: Any = None, **options: Any) -> Any:
    vars(model)["baseline"] = baseline  # no part of the module
    measurement = kind(["toy"], model, OmegaConf.create({}), **options)
    measurement.recorder = recorder or Giving()
    values = measurement.measure()
    return {name.removeprefix("toy_test_"): value for name, value in values.items()}


def layers(kind: type, edit: Any = len, **options: Any) -> Any:
    """A network against itself, edited."""
    model = Net()
    baseline = copy.deepcopy(model)
    with torch.no_grad():
        edit(model.backbone)
    return found(kind, model, baseline, **options)


def features(now: Tensor, before: Tensor = FEATURES) -> Any:
    model, baseline = SimpleNamespace(features=now), SimpleNamespace(features=before)
    return found(FeatureSimilarity, model, baseline)["cka"]


@pytest.mark.parametrize("kind", [LayerSimilarity, LayerError])
def test_layers_that_see_other_pictures_are_not_compared(kind: type) -> None:
    model, baseline = Net(), Net()
    baseline.preprocessing = Preprocessing(size=(4, 4), mean=(0.5,))  # each scales for itself
    assert found(kind, model, baseline)
    baseline.preprocessing = Preprocessing(size=(8, 8))
    with pytest.raises(NotApplicable, match=r"size \(4, 4\), its baseline of size \(8, 8\)"):
        found(kind, model, baseline)


def test_features_turned_scaled_and_moved_are_the_same() -> None:
    value = features(-3 * FEATURES @ ROTATION + 5)
    assert value == pytest.approx(1, abs=1e-6)
    assert value.n == 80
    assert value.high - value.low < 1e-5


def test_unrelated_features_have_nothing_in_common() -> None:
    value = features(torch.randn(80, 200, generator=torch.Generator().manual_seed(1)))
    assert abs(value) < 0.1
    assert value.low < 0 < value.high


def test_rows_broken_in_one_model_are_left_out() -> None:
    spoilt = FEATURES.clone()
    spoilt[3] = torch.inf
    assert (features(spoilt), features(spoilt).n) == (pytest.approx(1), 79)


def test_few_rows_are_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="10 samples with finite logits, 20 needed"):
        features(FEATURES[:10], FEATURES[:10])


def test_a_model_against_itself_has_equal_layers() -> None:
    similar = layers(LayerSimilarity, samples=100, batch=4, spatial="flattened")
    for name in ("layer_cka_0", "layer_cka_2", "layer_cka_5", "cka_lowest_layer"):
        assert similar[name] == pytest.approx(1)
    assert similar["layer_cka_0"].n == 100
    assert similar["layer_cka_0"].low == pytest.approx(1)  # 25 batches
    errors = layers(LayerError, samples=100)
    assert {name: float(value) for name, value in errors.items()} == {
        "layer_identical_0": 1,
        "layer_identical_2": 1,
        "layer_identical_5": 1,
        "sqnr_layers_identical": 3,
        "sqnr_layers_left_out": 0,
    }


def test_a_layer_that_doubles_is_similar_and_has_no_signal_above_its_noise() -> None:
    def double(backbone: Any) -> None:
        backbone[5].weight *= 2
        backbone[5].bias *= 2

    errors = layers(LayerError, double, samples=64)
    assert errors["layer_sqnr_5"] == pytest.approx(0, abs=1e-6)  # the error is as large
    assert errors["sqnr_lowest_layer"] == errors["layer_sqnr_5"]
    assert (errors["layer_sqnr_5"].unit, errors["layer_sqnr_5"].n) == ("dB", 64)
    assert errors["sqnr_layers_identical"] == 2
    similar = layers(LayerSimilarity, double, samples=64)
    assert similar["layer_cka_5"] == pytest.approx(1)
    assert similar["layer_cka_5"].low is None  # two batches


def test_a_tenth_of_error_is_twenty_decibels() -> None:
    def more(backbone: Any) -> None:
        backbone[0].weight *= 1.1
        backbone[0].bias *= 1.1

    assert layers(LayerError, more)["layer_sqnr_0"] == pytest.approx(20, abs=1e-4)


def test_a_narrower_layer_is_similar_but_has_no_error() -> None:
    model, baseline = Net(width=2), Net(width=3)
    errors = found(LayerError, copy.deepcopy(model), baseline)
    assert "layer_sqnr_0" not in errors
    assert errors["sqnr_layers_left_out"] == 1
    similar = found(LayerSimilarity, model, baseline, samples=96)
    assert {"layer_cka_0", "layer_cka_2", "layer_cka_5"} < set(similar)
    assert similar["cka_layers_left_out"] == 0


def test_a_factorised_layer_is_compared_and_one_that_is_gone_counted() -> None:
    def factorise(backbone: Any) -> None:
        backbone[5] = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))

    assert "layer_sqnr_5" in layers(LayerError, factorise)
    model = Net()
    names = ["0", "1", "2", "3", "4", "renamed"]
    model.backbone = nn.Sequential(OrderedDict(zip(names, model.backbone, strict=True)))
    errors = found(LayerError, model, Net())
    assert errors["sqnr_layers_left_out"] == 1
    assert errors["sqnr_layers_identical"] == 2


def test_a_silent_layer_is_left_out() -> None:
    def silence(backbone: Any) -> None:
        backbone[2].weight.zero_()
        backbone[2].bias.zero_()

    similar = layers(LayerSimilarity, silence, samples=96)
    assert similar["cka_layers_left_out"] == 2  # the head does not vary either
    model, baseline = Net(), Net()
    with torch.no_grad():
        silence(baseline.backbone)
    errors = found(LayerError, model, baseline)
    assert "layer_sqnr_2" not in errors
    assert errors["sqnr_layers_left_out"] == 1


@pytest.mark.parametrize(
    ("kind", "measured", "lowest"),
    [
        (LayerError, "layer_sqnr_", "sqnr_lowest_layer"),
        (LayerSimilarity, "layer_cka_", "cka_lowest_layer"),
    ],
)
def test_the_lowest_layer_is_the_least_alike(kind: type, measured: str, lowest: str) -> None:
    def more(backbone: Any) -> None:
        backbone[0].weight += 0.3

    results = layers(kind, more, samples=96)
    values = [float(value) for name, value in results.items() if name.startswith(measured)]
    assert len(set(values)) == 3
    assert results[lowest] == min(values)


@pytest.mark.parametrize("kind", [LayerError, LayerSimilarity])
def test_the_batch_of_the_loader_does_not_matter(kind: type) -> None:
    def more(backbone: Any) -> None:
        backbone[0].weight += 0.1

    some, all_ = (layers(kind, more, recorder=Giving(size=size), samples=90) for size in (7, 90))
    assert {name: float(value) for name, value in some.items()} == pytest.approx(all_)


def test_pooled_and_flattened_are_two_numbers() -> None:
    def more(backbone: Any) -> None:
        backbone[0].weight += 0.3

    pooled, flat = (
        layers(LayerSimilarity, more, samples=96, spatial=spatial)["layer_cka_0"]
        for spatial in ("pooled", "flattened")
    )
    assert abs(pooled - flat) > 1e-3


def test_images_that_break_a_model_are_left_out() -> None:
    images = IMAGES.clone()
    images[5] = torch.nan
    errors = layers(LayerError, recorder=Giving(images), samples=32)
    assert errors["layer_identical_0"].n == 31


@pytest.mark.parametrize("kind", [LayerError, LayerSimilarity])
def test_a_model_of_another_runtime_has_no_layers(kind: type) -> None:
    deployed = Net()
    deployed.runtime = "onnxruntime"
    for model, baseline in ((deployed, Net()), (Net(), deployed)):
        with pytest.raises(NotApplicable, match="run by onnxruntime shows no layers"):
            found(kind, model, baseline)


def test_both_models_are_left_as_they_were() -> None:
    model, baseline = Net(), Net()
    with pytest.raises(RuntimeError):
        found(LayerError, model, baseline, Giving(torch.zeros(20, 2, 4, 4)), samples=20)
    for each in (model, baseline):
        assert all(layer.training and not layer._forward_hooks for layer in each.modules())


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (FeatureSimilarity, {"samples": 19}, "at least 20, got 19"),
        (LayerSimilarity, {"batch": 3}, "batch is at least 4 images, got 3"),
        (LayerSimilarity, {"samples": 31}, "samples is at least 32 images, got 31"),
        (LayerSimilarity, {"spatial": "mean"}, "spatial is one of pooled, flattened"),
        (LayerError, {"samples": 0}, "samples is at least 16 images, got 0"),
    ],
)
def test_options_out_of_range_are_refused(kind: type, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        found(kind, Net(), Net(), **options)
