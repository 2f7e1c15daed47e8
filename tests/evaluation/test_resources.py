"""What a compression may learn from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from compressors.resources import Resources
from core.app import CONFIG
from datamodules.dummy import Dummy
from evaluation.resources import parts_of, resources_for
from models.small.digits import DigitsCNN
from recording.recorder import Recorder


class TrainOnly(Dummy):
    """A dataset without a val split."""

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test")


@pytest.mark.parametrize("samples", [None, 20], ids=["all", "some"])
def test_without_val_a_fixed_share_of_train_is_for_scores_alone(samples: int | None) -> None:
    parts = parts_of(TrainOnly(samples=50), samples=samples, score_share=0.2)
    used = samples or 50
    assert parts.optimistic
    assert (parts.tuning[0], parts.score[0]) == ("train", "train")
    assert (len(parts.tuning[1]), len(parts.score[1])) == (used * 4 // 5, used // 5)
    assert len({*parts.tuning[1].tolist(), *parts.score[1].tolist()}) == used


def test_val_is_for_scores_where_it_exists() -> None:
    parts = parts_of(Dummy(samples=30), samples=None, score_share=0.2)
    assert not parts.optimistic
    assert parts.tuning[1].tolist() == list(range(30))
    assert (parts.score[0], len(parts.score[1])) == ("val", 30)


@pytest.fixture
def model() -> DigitsCNN:
    return DigitsCNN().eval()


@pytest.fixture
def resources(model: DigitsCNN, tmp_path: Path) -> Resources:
    overrides = [f"results_dir={tmp_path}", "batch_size=16", "tuning.samples=100"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG)):
        config = compose("evaluate_defaults", overrides=overrides)
    return resources_for(model, config, Recorder.from_config(config))


def test_batches_are_the_first_samples_of_one_order(resources: Resources) -> None:
    few, more = list(resources.batches(20)), list(resources.batches(40))
    assert [len(labels) for _, labels in few] == [16, 4]
    images, labels = (torch.cat(parts) for parts in zip(*more, strict=True))
    assert torch.equal(torch.cat([images for images, _ in few]), images[:20])
    assert sum(len(labels) for _, labels in resources.batches(10**6)) == 100
    assert len(set(labels.tolist())) > 5  # not one class after the other


class Constant(nn.Module):
    """Says one class of all images."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(10)[3].expand(len(images), 10)


class Broken(nn.Module):
    """Has lost its numbers."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 10), torch.nan)


def test_the_score_is_the_accuracy_on_samples_that_are_not_tuned_on(
    resources: Resources, model: DigitsCNN
) -> None:
    assert resources.score(model) > 0.9
    share = resources.score(Constant())
    assert share == pytest.approx(round(share * 100) / 100)
    assert 0 < share < 0.5
    assert resources.score(Broken()) == 0
    assert resources.said == ()  # digits have a val split


def test_training_changes_the_model_alike_twice(resources: Resources, model: DigitsCNN) -> None:
    weights = []
    for _ in range(2):
        twin = DigitsCNN().eval()
        resources.train(twin, epochs=1, learning_rate=0.01)
        weights.append(np.concatenate([p.detach().flatten() for p in twin.parameters()]))
    assert (weights[0] == weights[1]).all()
    before = np.concatenate([p.detach().flatten() for p in model.parameters()])
    assert not np.allclose(weights[0], before)
