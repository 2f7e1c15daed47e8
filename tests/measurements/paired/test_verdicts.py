"""Disparity, spread, non-inferiority, likeness and corruption of two models."""

from typing import Any

import pytest
import torch

from core.errors import NotApplicable
from measurements.paired.corruption import CorruptionFlips, CorruptionGap
from measurements.paired.disparity import ClassSpread, DisparityAmplification
from measurements.paired.noninferiority import NonInferiority
from measurements.paired.probabilities import LogitSimilarity

LABELS = torch.tensor([0] * 20 + [1] * 20)
RIGHT = LABELS.tolist()
HURT = [2] * 10 + RIGHT[10:]  # half of the first group is lost
GROUPS = {"region": ["north"] * 20 + ["south"] * 20}


def found(toy: Any, votes: Any, kind: type, now: list[int], **options: Any) -> dict[str, Any]:
    classes = options.pop("classes", 3)
    results = toy(
        kind,
        labels={"toy": LABELS},
        now={"toy": votes(now, classes=classes)},
        before={"toy": votes(RIGHT, classes=classes)},
        **options,
    ).measure()
    return {name.removeprefix("toy_test_"): value for name, value in results.items()}


def test_harm_to_one_group_is_an_amplified_disparity(toy: Any, votes: Any) -> None:
    values = found(toy, votes, DisparityAmplification, HURT, groups=GROUPS)
    assert values["disparity_amplification_region"] == pytest.approx(0.5)
    assert values["disparity_amplification_p_region"] < 0.01
    assert values["disparity_amplification_null_region"].high < 0.5
    assert values["worst_group_delta_region"] == -0.5
    assert values["worst_group_delta_excess_region"] == pytest.approx(-0.25)
    north, south = (values[f"delta_group_accuracy_region_{name}"] for name in ("north", "south"))
    assert (north, north.n) == (-0.5, 20)
    assert north.high == pytest.approx(-0.5 + 1.959964 * (0.25 / 20) ** 0.5)
    assert (south, south.low, south.high) == (0, 0, 0)


def test_disparity_without_groups_is_not_applicable(toy: Any, votes: Any) -> None:
    with pytest.raises(NotApplicable, match="no group columns"):
        found(toy, votes, DisparityAmplification, HURT)


def test_harm_to_one_class_spreads_more_than_noise(toy: Any, votes: Any) -> None:
    values = found(toy, votes, ClassSpread, HURT)
    assert values["class_delta_sd"] == pytest.approx(0.5 / 2**0.5)
    assert values["class_delta_sd_expected"] == pytest.approx((0.25 / 20 / 2) ** 0.5)
    assert values["class_delta_sd_ratio"] == pytest.approx(20**0.5)


def test_equal_models_have_no_ratio_of_spreads(toy: Any, votes: Any) -> None:
    assert list(found(toy, votes, ClassSpread, RIGHT)) == [
        "class_delta_sd",
        "class_delta_sd_expected",
    ]


@pytest.mark.parametrize(
    ("now", "margin", "verdict"),
    [(RIGHT, None, (1, 0)), (HURT, None, (0, 1)), (HURT, 0.2, (0, 0)), (HURT, 0.5, (1, 0))],
    ids=["equal", "a quarter lost", "undecided", "borne"],
)
def test_the_verdict_follows_the_interval(
    toy: Any, votes: Any, now: list[int], margin: float | None, verdict: tuple[int, int]
) -> None:
    values = found(toy, votes, NonInferiority, now, margin=margin)
    assert (values["noninferior"], values["inferior"]) == verdict


def test_the_default_margin_is_one_per_cent_of_the_baseline(toy: Any, votes: Any) -> None:
    values = found(toy, votes, NonInferiority, HURT)
    assert values["noninferiority_margin"] == pytest.approx(0.01)
    # -.25 - 1.96 sqrt(.1875 / 40) + .01
    expected = -0.25 - 1.959964 * (0.1875 / 40) ** 0.5 + 0.01
    assert values["noninferiority_slack"] == pytest.approx(expected)


@pytest.mark.parametrize("margin", [-0.1, 1.5])
def test_a_margin_out_of_range_is_refused(toy: Any, votes: Any, margin: float) -> None:
    with pytest.raises(ValueError, match="margin is a bearable loss"):
        found(toy, votes, NonInferiority, HURT, margin=margin)


def test_likeness_of_equal_models_is_one(toy: Any, votes: Any) -> None:
    values = found(toy, votes, LogitSimilarity, RIGHT, classes=6)
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        {"logit_cosine": 1, "logit_rank_correlation": 1, "top5_overlap": 1}
    )


def test_likeness_is_the_mean_over_samples(toy: Any, votes: Any) -> None:
    values = found(toy, votes, LogitSimilarity, HURT)
    # a quarter of the rows moves the only vote: cosine of centred (2, -1, -1), (-1, -1, 2) = -1/2
    assert values["logit_cosine"] == pytest.approx(0.75 - 0.125)
    assert "top5_overlap" not in values


@pytest.mark.parametrize(("kept", "ratio"), [(20, 2.0), (30, 1.0)])
def test_what_corruption_costs_against_the_baseline(
    toy: Any, votes: Any, kept: int, ratio: float
) -> None:
    # the baseline loses 10 of 40 by fog; the model 40 - kept
    def fogged(hits: int) -> dict[str, torch.Tensor]:
        return {"toy": votes(RIGHT), "toy/fog_1": votes(RIGHT[:hits] + [2] * (40 - hits))}

    results = toy(
        CorruptionGap,
        labels={"toy": LABELS},
        now=fogged(kept),
        before=fogged(30),
        corruptions=["fog"],
        severities=[1],
    ).measure()
    assert results["toy_test_corruption_gap_ratio"] == pytest.approx(ratio)
    assert results["toy_test_delta_corruption_gap"] == pytest.approx((30 - kept) / 40)
    assert results["toy_test_delta_mean_corruption_error"] == pytest.approx((30 - kept) / 40)


def test_a_harmless_corruption_gives_no_ratio(toy: Any, votes: Any) -> None:
    clean = {"toy": votes(RIGHT), "toy/fog_1": votes(RIGHT)}
    measurement = toy(
        CorruptionGap,
        labels={"toy": LABELS},
        now=clean,
        before=clean,
        corruptions=["fog"],
        severities=[1],
    )
    assert list(measurement.measure()) == [
        "toy_test_delta_mean_corruption_error",
        "toy_test_delta_corruption_gap",
    ]
    assert [request.view for request in measurement.requests()] == ["clean", "fog_1"]


def test_flips_under_corruption_are_means_over_severities(toy: Any, votes: Any) -> None:
    # of 40: fog_1 changes 4, 2 of them right before; fog_2 changes none; flip mends 8
    before = {
        "toy": votes(RIGHT),
        "toy/fog_1": votes([2, 2, *RIGHT[2:]]),
        "toy/fog_2": votes(RIGHT),
        "toy/snow_1": votes([2] * 8 + RIGHT[8:]),
        "toy/snow_2": votes([2] * 8 + RIGHT[8:]),
    }
    now = {
        **before,
        "toy/fog_1": votes([0, 0, 2, 2, *RIGHT[4:]]),
        "toy/snow_1": votes(RIGHT),
        "toy/snow_2": votes(RIGHT),
    }
    results = toy(
        CorruptionFlips,
        labels={"toy": LABELS},
        now=now,
        before=before,
        corruptions=["fog", "snow"],
        severities=[1, 2],
    ).measure()
    assert {name.removeprefix("toy_test_"): float(value) for name, value in results.items()} == {
        "corruption_churn_fog": pytest.approx(2 / 40),
        "corruption_negative_flips_fog": pytest.approx(1 / 40),
        "corruption_churn_snow": pytest.approx(8 / 40),
        "corruption_negative_flips_snow": 0,
        "mean_corruption_churn": pytest.approx(5 / 40),
        "mean_corruption_negative_flips": pytest.approx(0.5 / 40),
    }
    churn = results["toy_test_mean_corruption_churn"]
    assert churn.low < churn < churn.high
    assert churn.n == 40


def test_views_that_are_not_there_are_told(toy: Any, votes: Any) -> None:
    with pytest.raises(NotApplicable, match="rust_1"):
        found(toy, votes, CorruptionGap, RIGHT, corruptions=["rust"])
