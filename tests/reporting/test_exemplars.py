"""Exemplars from records: populations of different weights, their modal labels, their classes."""

from typing import Any

import pytest

from reporting.exemplars import Populations, exemplar_populations
from reporting.population import read_members

LABEL = [0, 0, 0, 0, 1, 1, 1, 1]
RIGHT = LABEL
LOST = [0, 0, 0, 1, 1, 1, 1, 1]  # sample 3 is given up


def populations(
    sweep: Any, baselines: list[list[int]], compressed: list[list[int]]
) -> list[Populations]:
    """What is found where compressed model i was made of baseline i, or of the last one."""
    for i, predicted in enumerate(baselines):
        key = sweep.records(f"base{i}-key", predicted, LABEL)
        sweep.run(f"base{i}", passes={"digits": key})
    for i, predicted in enumerate(compressed):
        key = sweep.records(f"small{i}-key", predicted, LABEL)
        of = f"base{min(i, len(baselines) - 1)}"
        sweep.run(f"small{i}", of=of, seed=i, passes={"digits": key})
    return list(exemplar_populations(sweep.layout, read_members(sweep.layout)))


def test_what_most_models_of_five_seeds_give_up_is_an_exemplar(sweep: Any) -> None:
    (found,) = populations(sweep, [RIGHT] * 5, [LOST, LOST, LOST, RIGHT, RIGHT])
    assert (found.what, found.samples, found.share, found.notes) == ("exemplars", 8, 0.125, [])
    (sample,) = found.rows
    assert vars(sample) == {"sample_id": 3, "label": 0, "baseline": 0, "compressed": 1}
    assert (len(found.compressed), len(found.baselines)) == (5, 5)


def test_classes_are_tested_against_accuracy(sweep: Any) -> None:
    (found,) = populations(sweep, [RIGHT] * 5, [LOST] * 5)
    # recall of class 0 falls to 3/4, accuracy to 7/8: -1/8 beyond it; class 1 the reverse
    assert [(test.label, test.shift) for test in found.classes] == [(0, -0.125), (1, 0.125)]
    assert [test.adjusted for test in found.classes] == [0, 0]


def test_identical_populations_have_none(sweep: Any) -> None:
    (found,) = populations(sweep, [RIGHT, LOST] * 3, [RIGHT, LOST] * 3)
    assert (found.rows, found.share) == ([], 0)
    assert {test.adjusted for test in found.classes} == {1.0}


@pytest.mark.parametrize(
    ("models", "missing"), [(1, "4 compressed models and 4 baselines are missing"), (4, "1 comp")]
)
def test_fewer_than_five_are_called_churn(sweep: Any, models: int, missing: str) -> None:
    (found,) = populations(sweep, [RIGHT] * models, [LOST] * models)
    assert found.what == "churn"
    assert [row.sample_id for row in found.rows] == [3]
    assert missing in found.notes[0]
    assert bool(found.classes) == (models > 1)


def test_seeds_of_one_baseline_are_called_churn(sweep: Any) -> None:
    (found,) = populations(sweep, [RIGHT], [LOST] * 5)
    assert (found.what, len(found.compressed), len(found.baselines)) == ("churn", 5, 1)
    assert "0 compressed models and 4 baselines are missing" in found.notes[0]
    assert found.classes == []


def test_equal_weights_are_one_model(sweep: Any) -> None:
    sweep.run("base", passes={"digits": sweep.records("b", RIGHT, LABEL)})
    key = sweep.records("s", LOST, LABEL)
    for seed in range(5):
        sweep.run(f"s{seed}", of="base", seed=seed, fingerprint="same", passes={"digits": key})
    (found,) = exemplar_populations(sweep.layout, read_members(sweep.layout))
    assert (found.compressed, found.what) == (["s0"], "churn")


def test_other_recipes_are_other_populations(sweep: Any) -> None:
    sweep.run("base", passes={"digits": sweep.records("b", RIGHT, LABEL)})
    for name, sparsity in (("s", 0.5), ("t", 0.75)):
        passes = {"digits": sweep.records(name, LOST, LABEL)}
        sweep.run(f"run-{name}", of="base", recipe={"sparsity": sparsity}, passes=passes)
    found = exemplar_populations(sweep.layout, read_members(sweep.layout))
    assert [one.recipe for one in found] == ["sparsity=0.5", "sparsity=0.75"]


def test_without_records_there_is_nothing_to_compare(sweep: Any) -> None:
    sweep.run("base", passes={"digits": "absent"})
    sweep.run("small", of="base", passes={"digits": "absent too"})
    assert list(exemplar_populations(sweep.layout, read_members(sweep.layout))) == []


def test_samples_one_model_lacks_are_left_out(sweep: Any) -> None:
    sweep.run("base", passes={"digits": sweep.records("b", RIGHT[:4], LABEL[:4])})
    sweep.run("small", of="base", passes={"digits": sweep.records("s", LOST, LABEL)})
    (found,) = exemplar_populations(sweep.layout, read_members(sweep.layout))
    assert (found.samples, [row.sample_id for row in found.rows]) == (4, [3])
