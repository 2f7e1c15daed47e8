"""Natural shift and corruption, from records."""

from typing import Any

import pytest
import torch

from core.errors import NotApplicable
from measurements.benefits.shift import CorruptionError, NaturalShift
from measurements.functional.corruption import ALEXNET_ERRORS
from measurements.functional.shift import published_line

TEN = torch.zeros(10, dtype=torch.int64)


def predictions(hits: int) -> list[int]:
    return [0] * hits + [1] * (10 - hits)


def test_the_gap_is_to_the_reference(toy: Any, votes: Any) -> None:
    results = toy(
        NaturalShift,
        labels={"imagenet": TEN, "imagenetv2": TEN, "toy": TEN},
        now={
            "imagenet": votes(predictions(8)),
            "imagenetv2": votes(predictions(7)),
            "toy": votes(predictions(3)),
        },
        datasets=["imagenet", "imagenetv2", "toy"],
    ).measure()
    assert results["toy_test_shift_gap"] == pytest.approx(0.5)
    assert results["toy_test_shift_gap"].low > 0
    assert results["imagenetv2_test_shift_gap"] == pytest.approx(0.1)
    beyond = results["imagenetv2_test_effective_robustness"]
    assert beyond == pytest.approx(0.7 - published_line("imagenetv2").expected(0.8))
    assert beyond.better == "higher"
    assert "toy_test_effective_robustness" not in results  # no line is shipped


@pytest.mark.parametrize(
    ("datasets", "reason"), [(["toy"], "is not among"), (["imagenet"], "no dataset beside")]
)
def test_without_two_sides_it_is_not_applicable(
    toy: Any, votes: Any, datasets: list[str], reason: str
) -> None:
    measurement = toy(
        NaturalShift,
        labels={"imagenet": TEN, "toy": TEN},
        now={"imagenet": votes(predictions(8)), "toy": votes(predictions(3))},
        datasets=datasets,
    )
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match=reason):
        measurement.measure()


def answers(votes: Any, hits: dict[str, int], dataset: str = "toy") -> dict[str, torch.Tensor]:
    clean = {dataset: votes(predictions(9))}
    return clean | {f"{dataset}/{view}": votes(predictions(n)) for view, n in hits.items()}


def test_errors_are_means_over_severities_then_corruptions(toy: Any, votes: Any) -> None:
    hits = {"fog_1": 8, "fog_5": 4, "contrast_1": 9, "contrast_5": 7}
    measurement = toy(
        CorruptionError,
        labels={"toy": TEN},
        now=answers(votes, hits),
        corruptions=["fog", "contrast"],
        severities=[1, 5],
    )
    results = {name: float(value) for name, value in measurement.measure().items()}
    assert results == pytest.approx(
        {
            "toy_test_corruption_error_fog": 0.4,
            "toy_test_corruption_error_contrast": 0.2,
            "toy_test_mean_corruption_error": 0.3,
            "toy_test_corruption_gap": 0.2,
        }
    )
    views = [request.view for request in measurement.requests()]
    assert views == ["clean", "fog_1", "fog_5", "contrast_1", "contrast_5"]


def test_alexnets_constants_are_for_imagenet_c_alone(
    toy: Any, votes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("measurements.views.has_view", lambda datamodule, view: True)
    hits = {f"{name}_{s}": 7 - s for name in ALEXNET_ERRORS for s in (1, 2, 3, 4, 5)}  # mean 4
    results = toy(
        CorruptionError,
        labels={"imagenet_c": TEN},
        now=answers(votes, hits, "imagenet_c"),
        corruptions=list(ALEXNET_ERRORS),
    ).measure()
    expected = 100 * sum(0.6 / error for error in ALEXNET_ERRORS.values()) / 15
    assert results["imagenet_c_test_mce"] == pytest.approx(expected)
    relative = 100 * sum(0.5 / (error - 0.43478) for error in ALEXNET_ERRORS.values()) / 15
    assert results["imagenet_c_test_relative_mce"] == pytest.approx(relative)
    assert results["imagenet_c_test_mce"].unit == "%"


def test_mce_is_not_given_for_a_part_of_imagenet_c(toy: Any, votes: Any) -> None:
    hits = {f"fog_{s}": 5 for s in (1, 2, 3, 4, 5)}
    results = toy(
        CorruptionError,
        labels={"imagenet_c": TEN},
        now=answers(votes, hits, "imagenet_c"),
        corruptions=["fog"],
    ).measure()
    assert "imagenet_c_test_mce" not in results


def test_a_dataset_without_the_views_is_not_applicable(toy: Any, votes: Any) -> None:
    measurement = toy(
        CorruptionError, labels={"toy": TEN}, now=answers(votes, {}), corruptions=["rust"]
    )
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match="rust_1"):
        measurement.measure()
