"""Group fairness of records."""

from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import NotApplicable
from measurements.benefits.fairness import GroupFairness

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
