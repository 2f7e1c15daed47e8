"""Representation measurements: rows, intervals, differences; the numbers are tested with theirs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from core.errors import NotApplicable
from measurements.properties.linear_probe import LinearProbe
from measurements.properties.representation import (
    ClassSeparation,
    FeatureRank,
    IntrinsicDimension,
    Representation,
    chosen_rows,
    representation_at,
    taken,
)
from recording.columns import record_columns
from recording.records import Records

LABELS = torch.arange(60) % 3
BLOBS = 10 * torch.eye(4)[LABELS] + torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
ALL = [FeatureRank, IntrinsicDimension, ClassSeparation, LinearProbe]


def records_of(features: Tensor, labels: Tensor = LABELS, broken: int = 0) -> Records:
    """Records of a model with these features, whose first rows have no finite logits."""
    logits = torch.zeros(len(labels), 3)
    logits[:broken] = torch.nan
    ids = {"sample_id": torch.arange(len(labels)), "label": labels}
    parts = {"features": lambda: features}
    return Records({**ids, **record_columns(logits, labels)}, classes=3, parts=parts)


def made(kind: type, **options: Any) -> Any:
    return kind(["toy"], SimpleNamespace(runtime="torch"), OmegaConf.create({}), **options)


def square(n: int) -> Tensor:
    """Corners of a square in a plane of 5 dimensions, `n` samples of each."""
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).repeat(n, 1)
    return torch.cat([corners, torch.full((4 * n, 3), 7.0)], dim=1)


def test_a_square_has_two_directions_however_many_are_left_out() -> None:
    labels = torch.zeros(400, dtype=torch.int64)
    values = made(FeatureRank).estimate(records_of(square(100), labels))
    for value in (values["effective_rank"], values["participation_ratio"]):
        assert value == pytest.approx(2, abs=1e-9)
        assert value.n == 400
        assert value.low <= 2 <= value.high
        assert value.high - value.low < 0.01


def test_a_difference_is_the_model_less_its_baseline() -> None:
    line, plane = square(10)[:, :1], square(10)
    labels = torch.zeros(40, dtype=torch.int64)
    values = made(FeatureRank).difference(records_of(line, labels), records_of(plane, labels))
    assert values["effective_rank"] == pytest.approx(1 - 2)


def test_the_interval_is_that_of_the_jackknife() -> None:
    # nine pairs of one class and a last one of two; each of the 20 groups is one sample
    places = torch.cat([torch.arange(9.0), torch.arange(9.0) + 0.1, torch.tensor([99.0, 99.1])])
    records = records_of(places.unsqueeze(1), torch.tensor([*range(9), *range(9), 0, 1]) % 3)
    found = made(ClassSeparation, k=1)
    value = found.estimate(records)["knn_accuracy"]
    without = [
        found.of(representation_at(records, torch.tensor([i for i in range(20) if i != out])))
        for out in range(20)
    ]
    left = torch.tensor([each["knn_accuracy"] for each in without], dtype=torch.float64)
    half = 2.093024 * left.std(correction=0).item() * 19**0.5
    assert value == 18 / 20
    assert value.low == pytest.approx(0.9 - half)
    assert 0.9 + half > 1
    assert value.high == 1  # no more than all


@pytest.mark.parametrize("kind", [FeatureRank, ClassSeparation])
@pytest.mark.parametrize("width", [4, 90], ids=["tall", "wide"])
def test_what_samples_share_changes_no_value_of_some(kind: type, width: int) -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(60, width, generator=generator)
    features[30:] = features[:30]  # every sample has a duplicate
    whole = Representation(features=features, labels=LABELS)
    shared = made(kind).of_any(whole)
    for group in torch.randperm(60, generator=generator).split(3):
        ids = torch.tensor([i for i in range(60) if i not in group.tolist()])
        assert shared(ids) == pytest.approx(made(kind).of(taken(whole, ids)), rel=1e-6)


@pytest.mark.parametrize("kind", ALL)
def test_a_model_against_itself_differs_by_nothing(kind: type) -> None:
    records = records_of(BLOBS)
    for value in made(kind).difference(records, records).values():
        assert (value, value.low, value.high, value.n) == (0, 0, 0, 60)


@pytest.mark.parametrize("kind", ALL)
def test_rows_that_are_broken_in_either_model_are_left_out(kind: type) -> None:
    spoilt = BLOBS.clone()
    spoilt[:6] = torch.nan
    now, before = records_of(spoilt, broken=6), records_of(BLOBS)
    whole = made(kind).estimate(records_of(BLOBS[6:], LABELS[6:]))
    for name, value in made(kind).estimate(now).items():
        assert value == pytest.approx(whole[name])
        assert value.n == 54
    for value in made(kind).difference(now, before).values():
        assert (value, value.n) == (0, 54)


@pytest.mark.parametrize("kind", ALL)
def test_too_few_samples_are_not_applicable(kind: type) -> None:
    few = records_of(BLOBS[:12], LABELS[:12])
    with pytest.raises(NotApplicable, match="need"):
        made(kind).estimate(few)


def test_separated_classes_are_found_by_neighbours_and_by_a_probe() -> None:
    values = {**made(ClassSeparation).estimate(records_of(BLOBS))}
    assert (values["knn_accuracy"], values["knn_accuracy"].better) == (1, "higher")
    assert (values["nc1"].better, values["nc1"].unit) == ("lower", "")
    # class means 10 e_c around their mean: two eigenvalues 100 / 3; spread 1 in each
    assert values["nc1"] == pytest.approx((1 + 1) / (100 / 3) / 3, rel=0.3)
    probe = made(LinearProbe).estimate(records_of(BLOBS))["linear_probe_accuracy"]
    assert (probe, probe.n) == (1, 60)
    assert probe.low == pytest.approx(1 / (1 + 1.959964**2 / 60))  # Wilson, all of 60


def test_the_difference_of_a_probe_is_paired() -> None:
    useless = torch.zeros(60, 4)  # the probe says one class: a third is right
    change = made(LinearProbe).difference(records_of(useless), records_of(BLOBS))
    value = change["linear_probe_accuracy"]
    assert value == pytest.approx(-2 / 3)
    assert value.high == pytest.approx(-2 / 3 + 1.959964 * (2 / 9 / 59) ** 0.5, abs=2e-3)
    assert value.low >= -1


def test_rows_are_chosen_before_broken_ones_go() -> None:
    rows = chosen_rows([records_of(BLOBS)], 20)
    assert len(rows) == 20
    assert rows.tolist() == sorted(rows.tolist())
    assert rows.tolist() != list(range(20))
    broken = records_of(BLOBS, broken=30)
    assert chosen_rows([records_of(BLOBS), broken], 20).tolist() == [
        row for row in rows.tolist() if row >= 30
    ]


def test_samples_limit_what_is_looked_at() -> None:
    value = made(FeatureRank, samples=25).estimate(records_of(BLOBS))["effective_rank"]
    assert value.n == 25


def test_a_gaussian_in_a_plane_has_dimension_two() -> None:
    generator = torch.Generator().manual_seed(1)
    plane = torch.randn(300, 2, generator=generator) @ torch.randn(2, 20, generator=generator)
    records = records_of(plane, torch.zeros(300, dtype=torch.int64))
    values = made(IntrinsicDimension).estimate(records)
    assert values["intrinsic_dimension_twonn"] == pytest.approx(2, abs=0.4)
    assert values["intrinsic_dimension_mle"] == pytest.approx(2, abs=0.2)
    assert values["intrinsic_dimension_mle"].unit == "dimensions"


def test_the_neighbours_are_those_asked_for() -> None:
    # with two neighbours the second estimate is the first
    values = made(IntrinsicDimension, k=2).estimate(records_of(BLOBS))
    assert values["intrinsic_dimension_mle"] == values["intrinsic_dimension_twonn"]


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (FeatureRank, {"samples": 5}, "samples is a number of rows, at least 20, got 5"),
        (IntrinsicDimension, {"k": 1}, "at least 2, got 1"),
        (ClassSeparation, {"k": 51}, "in \\[1, 50\\], got 51"),
        (LinearProbe, {"folds": 1}, "folds is at least 2"),
        (LinearProbe, {"strength": 0}, "strength above 0"),
    ],
)
def test_options_out_of_range_are_refused(kind: type, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        made(kind, **options)
