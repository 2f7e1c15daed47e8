"""Disentanglement of recorded features."""

from typing import Any

import pytest
import torch
from torch import Tensor

from core.errors import NotApplicable
from datamodules.base import ImageDataModule
from datamodules.dummy import Dummy
from datamodules.factors import Factors
from measurements.functional.disentanglement import dci
from measurements.properties.disentanglement import Disentanglement
from recording.records import Records

FACTORS = torch.stack([torch.from_numpy(x) for x in Factors().factors("test").values()], dim=1)
ROTATION = torch.linalg.qr(
    torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
).Q
CHOSEN = torch.arange(0, 900, 2)


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("measurements.functional.disentanglement.TREES", 2)


class Recorder:
    """Features of every second sample, among the classes of the model."""

    def __init__(self, features: Tensor, datamodule: ImageDataModule) -> None:
        self.features, self.data = features, datamodule
        self.asked: dict[str, Any] = {}

    def datamodule(self, *_: Any) -> ImageDataModule:
        return self.data

    def records(self, *_: Any, **asked: Any) -> Records:
        self.asked = asked
        features = self.features[CHOSEN]
        columns = {"sample_id": CHOSEN, "finite": torch.ones(len(CHOSEN), dtype=torch.bool)}
        return Records(columns, classes=10, parts={"features": lambda: features})


def made(features: Tensor, data: ImageDataModule | None = None, **options: Any) -> Disentanglement:
    measurement = Disentanglement(["toy"], None, None, **options)  # type: ignore[arg-type]
    measurement.recorder = Recorder(features, data or Factors())  # type: ignore[assignment]
    return measurement


def test_the_factors_themselves_are_disentangled_and_a_rotation_of_them_is_not() -> None:
    pure, turned = (
        made(features).measure() for features in (FACTORS.double(), FACTORS.double() @ ROTATION)
    )
    names = ("dci_disentanglement", "dci_completeness", "dci_informativeness", "mig", "sap")
    assert set(pure) == {f"toy_test_{name}" for name in names}
    assert min(pure.values()) > 0.99
    for name in ("dci_disentanglement", "dci_completeness", "mig", "sap"):
        assert turned[f"toy_test_{name}"] < 0.6
    assert pure["toy_test_mig"].n == 450


def test_factors_without_an_order_do_not_count_for_sap() -> None:
    codes = FACTORS.double()
    codes[:, 0] = 0  # nothing tells the shape
    results = made(codes).measure()
    assert results["toy_test_sap"] > 0.99
    assert results["toy_test_mig"] == pytest.approx(0.8, abs=0.01)  # of one factor in five: none


def test_the_model_is_asked_for_all_its_classes() -> None:
    measurement = made(FACTORS.double())
    measurement.measure()
    (request,) = measurement.requests()
    assert request.classes_of == "model"
    assert request.parts == {"features"}
    asked = measurement.recorder.asked  # type: ignore[attr-defined]
    assert (asked["needs"], asked["classes_of"]) == ({"features"}, "model")


def test_the_seed_is_part_of_the_definition_and_of_the_scores() -> None:
    noisy = FACTORS + torch.randn(900, 5, generator=torch.Generator().manual_seed(1))
    measurement = made(noisy, seed=3)
    assert measurement.definition()["seed"] == 3
    expected = dci(noisy[CHOSEN], FACTORS[CHOSEN], seed=3).disentanglement
    assert measurement.measure()["toy_test_dci_disentanglement"] == expected


def test_other_datasets_have_no_factors() -> None:
    measurement = made(FACTORS.double(), Dummy())
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match="no dataset has known factors"):
        measurement.measure()
