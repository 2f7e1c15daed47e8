"""Foreign images told by features: of which images, of which model, compared with what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from core.errors import NotApplicable
from core.preprocessing import Preprocessing
from measurements.benefits.ood_features import FeatureOutOfDistribution
from measurements.functional.ood import detection
from measurements.functional.ood_features import knn_scores, mahalanobis_scores
from measurements.paired.ood import FeatureOutOfDistributionDelta
from models.base_model import ClassifierModule
from recording.loop import evaluating
from recording.recorder import Recorder, RecordingOptions

OWN = {
    "_target_": "datamodules.dummy.Dummy",
    "num_classes": 4,
    "size": [6, 6],
    "channels": 1,
    "samples": 20,
}
LIBRARY = {"own": OWN, "far": {**OWN, "num_classes": 7, "data_seed": 1}}


class TinyModel(ClassifierModule):
    """Its features are 8 numbers an image; not finite for an image without a bright corner."""

    broken = False

    def load_backbone(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 4))

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(6, 6))

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        lost = images[:, :, :1, :1] < 0.5
        return images.masked_fill(lost, torch.nan) if self.broken else images


def made(tmp_path: Path, kind: type = FeatureOutOfDistribution, **options: Any) -> Any:
    model = TinyModel().eval()
    model.baseline = TinyModel().eval()
    config = OmegaConf.create({"dataset_library": LIBRARY})
    options = {"far": ["far"], "draws": 10, "fit_samples": 12, "neighbours": 2, **options}
    measurement = kind(["own"], model, config, **options)
    measurement.recorder = Recorder(RecordingOptions(root=tmp_path, batch_size=8), LIBRARY)
    return measurement


def features(measurement: Any, name: str, split: str, samples: int) -> tuple[Any, Any]:
    batches = measurement.recorder.images(measurement.model, name, split, samples=samples)
    with evaluating(measurement.model):
        seen = [(measurement.model.forward_features(each.images), each.labels) for each in batches]
    return tuple(torch.cat(parts).clone() for parts in zip(*seen, strict=True))


def test_scores_are_distances_to_the_chosen_training_images(tmp_path: Path) -> None:
    measurement = made(tmp_path)
    results = measurement.measure()
    reference, labels = features(measurement, "own", "train", 12)
    own, far = (features(measurement, name, "test", 20)[0] for name in ("own", "far"))
    knn = (knn_scores(x, reference=reference, k=2) for x in (own, far))
    assert results["own_test_ood_auroc_knn_far"] == detection(*knn).auroc
    scores = (mahalanobis_scores(x, reference=reference, labels=labels) for x in (own, far))
    assert results["own_test_ood_auroc_mahalanobis_far"] == detection(*scores).auroc


def test_images_without_finite_features_score_lowest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyModel, "broken", True)
    measurement = made(tmp_path)
    score = measurement.scores(measurement.model, "own")["knn"]
    values = score(measurement.records("own"))
    finite = measurement.records("own").finite
    assert 0 < finite.sum() < 20
    assert values[finite].isfinite().all()
    assert (values[~finite] == -torch.inf).all()


def test_the_change_is_exactly_nothing_for_equal_models(tmp_path: Path) -> None:
    results = made(tmp_path, FeatureOutOfDistributionDelta).measure()
    assert "own_test_delta_ood_auroc_knn_far" in results
    assert {(value, value.low, value.high) for value in results.values()} == {(0.0, 0.0, 0.0)}


def test_without_a_train_split_there_is_nothing_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.dummy.Dummy.splits", ("test",))
    measurement = made(tmp_path)
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match="no training images"):
        measurement.measure()


def test_other_training_images_are_another_definition(tmp_path: Path) -> None:
    before = made(tmp_path).definition()
    assert before["train"]["own"] == made(tmp_path).recorder.datamodule(
        "own", TinyModel()
    ).manifest("train")
