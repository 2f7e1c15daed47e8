"""A published ResNet-20 on the CIFAR-10 test images: the numbers the functions must give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from measurements.functional.accuracy import topk_accuracy
from measurements.functional.divergence import kl_divergence
from measurements.functional.selective import aurc
from models.small.resnet_cifar import CifarResNet
from recording.columns import record_columns, shifted_logits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def labels_and_logits(data_dir: Path) -> tuple[Tensor, Tensor]:
    """Labels [10000] and logits [10000, 10]."""
    rows = np.fromfile(data_dir / "cifar10" / "test_batch.bin", dtype=np.uint8).reshape(-1, 3073)
    labels = torch.from_numpy(rows[:, 0].astype(np.int64))
    images = torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)).float() / 255
    model = CifarResNet(20, checkpoint=str(data_dir / "weights" / "resnet20-12fca82f.th")).eval()
    with torch.inference_mode():
        return labels, torch.cat([model(batch) for batch in images.split(500)])


@pytest.fixture(scope="module")
def columns(labels_and_logits: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    labels, logits = labels_and_logits
    return record_columns(logits, labels)


def test_accuracy_is_the_published_one(columns: dict[str, Tensor]) -> None:
    assert topk_accuracy(columns["rank"]) == 0.9173


def test_the_margin_ranks_what_the_confidence_leaves_tied(
    columns: dict[str, Tensor], labels_and_logits: tuple[Tensor, Tensor]
) -> None:
    correct = columns["rank"] == 0
    assert aurc(columns["margin_logit"], correct) == pytest.approx(0.010586, abs=5e-7)
    assert (columns["confidence"] == 1).double().mean() > 0.2
    assert len(columns["margin_logit"].unique()) > 9900


def test_stored_logits_lose_almost_nothing(labels_and_logits: tuple[Tensor, Tensor]) -> None:
    _, logits = labels_and_logits
    stored = shifted_logits(logits)
    assert kl_divergence(stored, baseline=logits).mean() < 1e-6
    assert torch.equal(stored.argmax(dim=1), logits.argmax(dim=1))
