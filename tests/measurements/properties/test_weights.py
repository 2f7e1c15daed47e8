"""Margins, norms and zeros of models whose weights are written down."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.utils import prune

from core.errors import NotApplicable
from core.preprocessing import Preprocessing
from datamodules.dummy import Dummy
from measurements.measurement import Measurement
from measurements.properties.margins import BoundaryDistance, LogitMargin
from measurements.properties.sparsity_patterns import (
    ChannelSparsity,
    ChannelZeros,
    LayerSparsity,
    PatternSparsity,
)
from measurements.properties.spectral import SpectralNorms
from models.base_model import ClassifierModule
from recording.columns import record_columns, shifted_logits
from recording.records import Records


class Pixels(ClassifierModule):
    """A network on images [B, 1, 2, 2] that go in as they are."""

    def __init__(self, network: nn.Module, num_classes: int = 2) -> None:
        self._given = [network]
        super().__init__(num_classes=num_classes)

    def load_backbone(self) -> nn.Module:
        return self._given[0]

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(2, 2), mean=(0.0,), std=(1.0,))


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


def flat(*layers: nn.Module, classes: int = 2) -> Pixels:
    return Pixels(nn.Sequential(nn.Flatten(), *layers), classes)


def measured(kind: type[Measurement], model: ClassifierModule, **options: Any) -> dict[str, float]:
    return {
        key.removeprefix("model_test_"): value
        for key, value in kind([], model, OmegaConf.create({}), **options).measure().items()
    }


def test_margins_worked_by_hand(toy: Callable[..., Any]) -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, 4.0]])
    labels = torch.tensor([0, 1, 2])  # margins 1, -2, 4
    found = toy(LogitMargin, labels={"toy": labels}, now={"toy": logits}).measure()
    assert found["toy_test_margin"] == pytest.approx(1)
    assert found["toy_test_margin_negative"] == pytest.approx(1 / 3)
    share = found["toy_test_margin_negative"]
    assert (share.unit, share.better, share.n) == ("fraction", "lower", 3)
    assert found["toy_test_margin"].better == "higher"


def test_a_broken_row_is_an_error_of_margin_0(toy: Callable[..., Any]) -> None:
    logits = torch.tensor([[3.0, 1.0], [torch.nan, 0.0]])
    found = toy(LogitMargin, labels={"toy": torch.tensor([0, 0])}, now={"toy": logits}).measure()
    assert found == {"toy_test_margin": 1.0, "toy_test_margin_negative": 0.5}


class Fixed:
    """Gives records of written logits, of a dataset without a label space."""

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        ids = {"sample_id": torch.arange(len(labels)), "label": labels}
        parts = {"logits": lambda: shifted_logits(logits)}
        columns = {**ids, **record_columns(logits, labels)}
        self.given = Records(columns, classes=logits.shape[1], parts=parts)

    def records(self, *_: Any, **__: Any) -> Records:
        return self.given

    def datamodule(self, *_: Any) -> Dummy:
        return Dummy(num_classes=2)


def distances(model: ClassifierModule) -> dict[str, float]:
    measurement = BoundaryDistance(["toy"], model, OmegaConf.create({}))
    logits, labels = torch.tensor([[10.0, 0.0], [10.0, 0.0]]), torch.tensor([0, 1])
    measurement.recorder = Fixed(logits, labels)  # type: ignore[assignment]
    return dict(measurement.measure())


def test_boundary_distance_uses_the_effective_weights_of_the_head() -> None:
    head = linear([[3.0, 0, 0, 9], [0.0, 4, 0, 0]])
    prune.custom_from_mask(head, "weight", torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]))
    found = distances(flat(head))  # rows 5 apart without the 9: distances 2 and -2
    assert found == {"toy_test_boundary_distance": 0.0}
    low, high = (getattr(found["toy_test_boundary_distance"], end) for end in ("low", "high"))
    assert (low, high) == (-2, 2)


class Halved(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Pixels(nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten())), "no classifier head"),
        (flat(Halved(4, 2)), "not what the classifier head makes"),
        (flat(linear([[0.0] * 4, [0.0] * 4])), "two classes have the same weights"),
    ],
    ids=["no linear head", "more after the head", "equal rows"],
)
def test_a_head_that_is_not_linear_has_no_boundary_distance(
    model: ClassifierModule, reason: str
) -> None:
    with pytest.raises(NotApplicable, match=reason):
        distances(model)


def test_norms_of_a_chain_worked_by_hand() -> None:
    conv = nn.Conv2d(1, 1, 1)
    nn.init.constant_(conv.weight, -5.0)
    network = nn.Sequential(conv, nn.Flatten(), linear([[0.0, 2, 0, 0], [1.0, 0, 0, 0]]))
    found = measured(SpectralNorms, Pixels(network))
    assert found["spectral_norm_0"] == pytest.approx(5)
    assert found["spectral_norm_2"] == pytest.approx(2)
    assert found["spectral_norm_largest"] == pytest.approx(5)
    assert found["spectral_norm_log10_product"] == pytest.approx(1)
    assert not any(layer._forward_pre_hooks for layer in network)


def test_norms_are_of_effective_weights_and_zero_layers_have_no_product() -> None:
    layer = linear([[7.0, 0, 0, 0], [0.0, 1, 0, 0]])
    prune.custom_from_mask(layer, "weight", torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
    assert measured(SpectralNorms, flat(layer))["spectral_norm_largest"] == pytest.approx(1)
    nothing = measured(SpectralNorms, flat(linear([[0.0] * 4, [0.0] * 4])))
    assert nothing == {"spectral_norm_1": 0, "spectral_norm_largest": 0}


def test_zeros_by_layer_channel_and_pattern_worked_by_hand() -> None:
    model = flat(
        linear([[0.0, 0, 0, 0], [1.0, 2, 0, 0], [1.0, 2, 0, 3], [0.0, 0, 0, 0]]),
        linear([[1.0, 1, 1, 1], [1.0, 0, 1, 0]]),
    )
    assert measured(LayerSparsity, model) == {
        "weight_sparsity_1": 11 / 16,
        "weight_sparsity_2": 2 / 8,
    }
    channels = measured(ChannelSparsity, model)
    assert channels["channel_sparsity_out"] == pytest.approx(2 / 6)
    assert channels["channel_sparsity_in"] == pytest.approx(1 / 8)
    assert channels["channel_sparsity_out_1"] == 0.5
    assert channels["channel_sparsity_in_1"] == 0.25
    found = measured(PatternSparsity, model)  # all rows but [1 2 0 3] and [1 1 1 1]
    assert found == {"pattern_share_2_4": pytest.approx(4 / 6)}
    assert measured(PatternSparsity, model, n=1, m=2) == {"pattern_share_1_2": 8 / 12}
    assert measured(PatternSparsity, model, n=1, m=4) == {"pattern_share_1_4": 2 / 6}


def test_zeros_by_channel_worked_by_hand_under_a_mask() -> None:
    first = linear([[1.0, 2, 3, 4], [5.0, 6, 7, 8]])
    prune.custom_from_mask(first, "weight", torch.tensor([[0, 0, 0, 1], [1, 0, 1, 1]]))
    found = measured(ChannelZeros, flat(first, linear([[1.0, 0], [1.0, 1]])))
    assert found == {
        # rows: 3/4, 1/4; 1/2, 0
        "channel_zeros_out_mean": 1.5 / 4,
        "channel_zeros_out_max": 0.75,
        "channel_zeros_out_mean_1": 0.5,
        "channel_zeros_out_max_1": 0.75,
        "channel_zeros_out_mean_2": 0.25,
        "channel_zeros_out_max_2": 0.5,
        # columns: 1/2, 1, 1/2, 0; 0, 1/2
        "channel_zeros_in_mean": pytest.approx(2.5 / 6),
        "channel_zeros_in_max": 1,
        "channel_zeros_in_mean_1": 0.5,
        "channel_zeros_in_max_1": 1,
        "channel_zeros_in_mean_2": 0.25,
        "channel_zeros_in_max_2": 0.5,
    }
    assert (found["channel_zeros_in_mean"].n, found["channel_zeros_out_max_2"].n) == (6, 2)  # type: ignore[attr-defined]


def test_a_mask_that_is_still_attached_counts() -> None:
    layer = linear([[1.0, 2, 3, 4], [5.0, 6, 7, 8]])
    prune.custom_from_mask(layer, "weight", torch.tensor([[0, 1, 0, 1], [1, 0, 0, 1]]))
    model = flat(layer)
    assert measured(PatternSparsity, model) == {"pattern_share_2_4": 1}
    assert measured(LayerSparsity, model) == {"weight_sparsity_1": 0.5}
    assert layer.state_dict()["weight_orig"].all()


@pytest.mark.parametrize(
    "kind", [LayerSparsity, ChannelSparsity, ChannelZeros, PatternSparsity, SpectralNorms]
)
def test_a_model_without_layers_is_not_applicable(kind: type[Measurement]) -> None:
    with pytest.raises(NotApplicable):
        measured(kind, Pixels(nn.Flatten(), 4))
