"""Property against benefit over the runs of a store."""

from dataclasses import replace
from typing import Any

import pytest

from core.estimate import Estimate
from reporting.association import Associations, What, associations
from reporting.compare import Row
from reporting.population import Member
from store.runs import Run


def member(
    lineage: int, *, compressed: bool = False, limit: int | None = None, **x: float
) -> Member:
    """A model; `x` is property or benefit by the first letter of its name."""
    name = f"m{lineage}{compressed}"
    run = Run(
        run_id=name,
        model="net",
        compressor="c",
        baseline=f"m{lineage}" if compressed else None,
        fingerprint=name,
        seed=0,
        config={"limit_samples": limit},
    )
    rows = {}
    for key, value in x.items():
        kind, measured = {"p": "property", "b": "benefit"}[key[0]], key[2:]
        full = f"digits_test_{measured}"
        baseline = Estimate(1.0) if compressed else ""
        rows[full] = Row(
            name=full, kind=kind, baseline=baseline, compressed=Estimate(value), key="k"
        )
    return Member(run=run, lineage=str(lineage), rows=rows)


def names(found: Associations) -> list[tuple[str, str]]:
    return [(pair.prop, pair.benefit) for pair in found.pairs]


def test_a_property_that_rises_with_a_benefit_is_found() -> None:
    found = associations([member(i, p_rank=i, b_accuracy=i * i) for i in range(10)], draws=500)
    (pair,) = found.pairs
    assert (pair.prop, pair.benefit) == ("digits_test_rank", "digits_test_accuracy")
    assert pair.found.spearman == pytest.approx(1)
    assert pair.found.pearson == pytest.approx(0.9627, abs=1e-4)
    assert pair.found.adjusted == pair.found.p_value < 0.01
    assert (pair.points[3].x, pair.points[3].y, pair.points[3].lineage) == (3, 9, "3")
    assert (found.missing, found.notes) == ("", [])


def test_the_strongest_pair_stands_first_and_all_are_adjusted_together() -> None:
    zigzag = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    found = associations(
        [member(i, p_rank=zigzag[i], p_scale=i, b_accuracy=i) for i in range(10)], draws=500
    )
    assert names(found)[0] == ("digits_test_scale", "digits_test_accuracy")
    first, second = (pair.found for pair in found.pairs)
    assert first.adjusted == pytest.approx(2 * first.p_value)
    assert second.adjusted == pytest.approx(second.p_value)


def test_pairs_that_follow_by_arithmetic_are_left_out() -> None:
    found = associations(
        [member(i, p_rank=i, p_nll=-i, b_accuracy=i) for i in range(10)], draws=100
    )
    assert names(found) == [("digits_test_rank", "digits_test_accuracy")]
    assert found.notes == ["1 pairs that follow from each other by arithmetic are left out"]


def test_below_ten_lineages_it_says_what_is_missing_instead_of_numbers() -> None:
    models = [member(i % 9, p_rank=i, b_accuracy=i) for i in range(40)]
    found = associations(models)
    assert found.pairs == []
    assert "needs 10 lineages of models, got 9" in found.missing


@pytest.mark.parametrize(
    ("models", "missing"),
    [
        ([member(i, b_accuracy=i) for i in range(10)], "no property is in the store"),
        ([member(i, p_rank=i) for i in range(10)], "no benefit is in the store"),
        ([], "no property and no benefit"),
        ([member(i, p_rank=1, b_accuracy=i) for i in range(10)], "no pair was measured of 10"),
    ],
    ids=["no property", "no benefit", "nothing", "constant"],
)
def test_what_is_missing_is_named(models: list[Member], missing: str) -> None:
    found = associations(models, draws=20)
    assert found.pairs == []
    assert missing in found.missing


def test_changes_are_of_compressed_models_alone() -> None:
    models = [
        member(i, compressed=compressed, p_rank=3 - i, b_accuracy=i)
        for i in range(10)
        for compressed in (False, True)
    ]
    (pair,) = associations(models, "changes", draws=200).pairs
    assert [(point.x, point.y) for point in pair.points[:2]] == [(2, -1), (1, 0)]  # minus 1
    assert pair.found.spearman == pytest.approx(-1)
    assert pair.found.models == 10


def test_a_model_without_one_of_the_two_is_left_out_of_the_pair() -> None:
    models = [member(i, p_rank=i, b_accuracy=i) for i in range(10)]
    (pair,) = associations([*models, member(10, b_accuracy=1)], draws=20).pairs
    assert (pair.found.lineages, len(pair.points)) == (10, 10)


def test_another_part_of_the_data_is_left_out_and_told() -> None:
    models: list[Any] = [member(i, p_rank=i, b_accuracy=i) for i in range(10)]
    found = associations([member(11, limit=60, p_rank=1, b_accuracy=1), *models], draws=20)
    assert found.pairs[0].found.models == 10
    assert found.notes == [
        "1 runs on another part of the data than limit_samples=None are left out"
    ]


@pytest.mark.parametrize("what", ["values", "changes"])
def test_numbers_of_another_definition_are_left_out_and_told(what: What) -> None:
    models = [member(i, compressed=True, p_rank=i, b_accuracy=i * i) for i in range(10)]
    other = member(10, compressed=True, p_rank=99, b_accuracy=-99)
    row = replace(other.rows["digits_test_rank"], key="64 samples")
    other = replace(other, rows={**other.rows, row.name: row})
    found = associations([other, *models], what, draws=20)
    assert found.pairs[0].found.models == 10
    assert found.pairs[0].found.spearman == pytest.approx(1)
    (note,) = found.notes
    assert note.startswith("digits_test_rank: 1 runs are left out")


def test_baselines_alone_are_no_lineage_of_changes() -> None:
    models = [member(i, p_rank=i, b_accuracy=i) for i in range(10)]
    found = associations([*models, member(0, compressed=True, p_rank=1, b_accuracy=1)], "changes")
    assert "needs 10 lineages of models, got 1" in found.missing
