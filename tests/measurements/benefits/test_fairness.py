"""Group fairness of records."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import NotApplicable
from measurements.benefits.fairness import GroupCalibration, GroupErrorRates, GroupFairness

LABELS = torch.zeros(20, dtype=torch.int64)
NINE_AND_FIVE = [0] * 9 + [1] + [0] * 5 + [1] * 5
TWO_TENS = {"region": ["north"] * 10 + ["south"] * 10}


def test_nine_and_five_of_ten(toy: Any, votes: Any) -> None:
    results = toy(
        GroupFairness, labels={"toy": LABELS}, now={"toy": votes(NINE_AND_FIVE)}, groups=TWO_TENS
    ).measure()
    found = {name.removeprefix("toy_test_"): value for name, value in results.items()}
    assert found["group_accuracy_region_north"] == 0.9
    assert found["group_accuracy_region_south"].n == 10
    assert found["group_accuracy_region_south"].low == pytest.approx(0.23659, abs=1e-5)
    assert found["worst_group_accuracy_region"] == 0.5
    assert found["group_gap_region"] == pytest.approx(0.4)
    assert found["group_ratio_region"] == pytest.approx(5 / 9)
    assert found["smallest_group_region"] == 10
    assert 0 < found["group_gap_null_region"] < 0.4
    assert 0.08 < found["group_gap_p_region"] < 0.2  # exactly .1409: hypergeometric tails
    assert found["group_gap_region"].better == "lower"


def test_a_table_goes_before_the_columns_of_the_dataset(
    toy: Any, votes: Any, tmp_path: Path
) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("sample_id,parity\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    measurement = toy(
        GroupFairness,
        labels={"toy": LABELS},
        now={"toy": votes(NINE_AND_FIVE)},
        groups=TWO_TENS,
        group_files={"toy": str(file)},
    )
    names = measurement.measure()
    assert "toy_test_group_gap_parity" in names
    assert not any("region" in name for name in names)
    assert measurement.definition()["tables"]["toy"]


def test_without_groups_it_is_not_applicable(toy: Any, votes: Any) -> None:
    measurement = toy(GroupFairness, labels={"toy": LABELS}, now={"toy": votes(NINE_AND_FIVE)})
    with pytest.raises(NotApplicable, match="no group columns"):
        measurement.measure()


def of_kind(kind: Any, toy: Any, logits: torch.Tensor, labels: list[int], groups: str) -> Any:
    measurement = toy(
        kind,
        labels={"toy": torch.tensor(labels)},
        now={"toy": logits},
        groups={"side": list(groups)},
    )
    return {name.removeprefix("toy_test_"): value for name, value in measurement.measure().items()}


def test_a_model_calibrated_over_all_is_overconfident_of_one_group(toy: Any) -> None:
    logits = torch.tensor([[3.0, 1.0, 1.0]] * 8).log()  # 60 % for class 0
    found = of_kind(GroupCalibration, toy, logits, [0, 0, 0, 0, 0, 1, 1, 1], "lllrrrrr")
    assert found["group_confidence_gap_side_l"] == pytest.approx(-0.4)
    assert found["group_confidence_gap_side_r"] == pytest.approx(0.6 - 2 / 5)
    assert found["group_confidence_gap_side_r"].n == 5
    assert found["group_confidence_gap_spread_side"] == pytest.approx(0.6)
    # of the 56 ways to deal out five hits, 10 have three on the left, and the 1 that has none there
    # is further apart the other way
    assert found["group_confidence_gap_spread_p_side"] == pytest.approx(11 / 56, abs=0.08)


def test_rates_of_two_classes_by_hand(toy: Any, votes: Any) -> None:
    labels = [0, 0, 0, 0, 1, 0, 0, 1, 1, 1]
    called = [1, 0, 0, 0, 1, 0, 1, 0, 0, 1]
    found = of_kind(GroupErrorRates, toy, votes(called, classes=2), labels, "aaaaabbbbb")
    assert found["group_fpr_side_a"] == pytest.approx(1 / 4)
    assert found["group_fpr_side_b"] == pytest.approx(1 / 2)
    assert found["group_fnr_side_a"] == 0
    assert found["group_fnr_side_b"] == pytest.approx(2 / 3)
    assert found["group_fpr_spread_side"] == pytest.approx(1 / 4)
    assert found["group_fnr_spread_side"] == pytest.approx(2 / 3)


def test_rates_of_three_classes_are_means_and_a_broken_row_is_missed(toy: Any, votes: Any) -> None:
    logits = votes([0, 1, 0, 2, 1, 0])
    logits[2] = torch.nan  # of class 0, in group a
    found = of_kind(GroupErrorRates, toy, logits, [0, 0, 0, 1, 1, 1], "aaaabb")
    # a: class 0 two of three missed, class 1 missed; wrongly called 0 of 1, 1 of 3, 1 of 4
    assert found["group_fnr_side_a"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["group_fpr_side_a"] == pytest.approx((0 + 1 / 3 + 1 / 4) / 3)
    # b: class 1 alone occurs, so it can be called wrongly of nothing; 0 is, of one of two
    assert found["group_fnr_side_b"] == 0.5
    assert found["group_fpr_side_b"] == pytest.approx((1 / 2 + 0) / 2)


def test_a_group_without_negatives_has_no_false_positive_rate(toy: Any, votes: Any) -> None:
    found = of_kind(GroupErrorRates, toy, votes([0, 1, 1, 1], classes=2), [0, 0, 1, 1], "aabb")
    assert found["group_fpr_side_a"] == 0.5
    assert "group_fpr_side_b" not in found
    assert "group_fnr_side_a" not in found
    assert not any("spread" in name for name in found)
