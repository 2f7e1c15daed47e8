from typing import Any

import numpy as np
import pytest
import torch

from core.errors import NotApplicable
from datamodules.cifar_relatives import CIFAR10H
from measurements.benefits.label_sets import HumanAgreement, RealAccuracy

LABELS = torch.tensor([0, 1, 2, 0])


def test_accuracy_counts_any_right_class(toy: Any, votes: Any) -> None:
    measurement = toy(RealAccuracy, labels={"toy": LABELS}, now={"toy": votes([1, 1, 0, 2])})
    sets = [(0, 1), (1,), (2,), ()]
    measurement.datamodules["toy"].label_sets = lambda split: sets
    value = measurement.measure()["toy_test_real_accuracy"]
    assert (value, value.n) == (pytest.approx(2 / 3), 3)
    assert value.low < value < value.high


def test_without_sets_there_is_nothing_to_say(toy: Any, votes: Any) -> None:
    for kind in (RealAccuracy, HumanAgreement):
        measurement = toy(kind, labels={"toy": LABELS}, now={"toy": votes([1, 1, 0, 2])})
        with pytest.raises(NotApplicable, match=r"^toy: "):
            measurement.measure()


def test_people_are_matched_by_sample_and_halved_by_their_agreement(
    toy: Any, votes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = np.array([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0.4, 0.3, 0.3]])
    monkeypatch.setattr(CIFAR10H, "label_distribution", lambda *_: said)
    measurement = toy(HumanAgreement, labels={"toy": LABELS}, now={"toy": votes([1, 1, 2, 1])})
    measurement.datamodules["toy"] = CIFAR10H()
    results = measurement.measure()
    assert results["toy_test_accuracy_human_easier"] == 1.0
    assert results["toy_test_accuracy_human_harder"] == 0.0
    entropy = (np.log(2) - 0.4 * np.log(0.4) - 0.6 * np.log(0.3)) / 4
    assert results["toy_test_human_entropy"] == pytest.approx(entropy)
    total = np.log(np.exp(4) + 2)  # of exp(logit); people chose logit 4 with these shares
    shares = np.array([0.5, 1, 1, 0.3])
    expected = (total - 4 * shares).mean()
    assert results["toy_test_human_cross_entropy"] == pytest.approx(expected, abs=1e-6)
