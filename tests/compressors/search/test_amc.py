import math
from typing import Any

import pytest

from compressors.base import Decision
from compressors.search.amc import AMC, STATE, Walk
from compressors.search.budget import Budget
from compressors.search.oracle import Quantity
from core.errors import ConfigError
from tests.compressors.search.conftest import IMAGES, Landscape, widths


def found(landscape: Landscape, seed: int = 0, **options: Any) -> Decision:
    recipe = AMC(**{"train_episode": 4, **options})
    return recipe.plan(landscape.model, IMAGES, landscape.resources(seed))


def walk(landscape: Landscape, *, kept: float = 0.5, quantity: Quantity = "macs") -> Walk:
    budget = Budget(quantity=quantity, sparsity=1 - kept)
    return Walk(landscape.oracle(), budget, low=0.2, high=1.0)


def test_what_is_wanted_is_bounded_by_what_the_later_layers_can_save(wide_b: Landscape) -> None:
    # 870 of 1740 are wanted, and 2 filters of `b` stay: 81 i + 18 i + 6 allows 8 of `a`
    way = walk(wide_b)
    assert way.bounded({}, 1.0) == pytest.approx(0.8)
    # 648 + 72 j + 3 j allows 2 of `b`
    assert way.bounded({"a": 0.8}, 1.0) == pytest.approx(0.2)
    greedy = way.candidate({"a": 0.8, "b": way.bounded({"a": 0.8}, 1.0)})
    assert greedy.macs == 81 * 8 + 9 * 16 + 6 <= 870
    # whoever keeps the least may keep all of the rest
    assert way.bounded({}, 0.2) == 0.2
    assert way.bounded({"a": 0.2}, 1.0) == 1.0


def test_a_layer_is_described_beside_the_largest(wide_b: Landscape) -> None:
    # `a` multiplies 9 times at 9 places for each of 10 filters, `b` 90 times at one place
    way = walk(wide_b)
    first, second = way.state({}).tolist(), way.state({"a": 0.8}).tolist()
    assert first == pytest.approx([0, 1, 0.1, 1, 1, 1, 1, 0.9, 0, 900 / 1710, 1])
    assert second == pytest.approx([1, 1, 1, 0.6, 0.6, 1, 1, 1, 0.2 * 810 / 1710, 0, 0.8])
    assert way.state({"a": 0.8, "b": 0.2}).tolist() == [0.0] * STATE


def test_a_budget_that_the_least_shares_do_not_meet_is_told(wide_b: Landscape) -> None:
    with pytest.raises(
        ConfigError, match=r"keeping 0\.1 of the macs is not .*lbound=0\.2 .*0\.117"
    ):
        walk(wide_b, kept=0.1)


def test_parameters_bound_other_shares_than_products_do(wide_b: Landscape) -> None:
    # 10 i + 9 i j + j + 3 j + 3 parameters, 521 of 1043 are wanted; two of `b`: 28 i + 11
    way = walk(wide_b, quantity="params")
    assert way.bounded({}, 1.0) == 1.0
    assert way.bounded({"a": 1.0}, 1.0) == pytest.approx(0.4)  # 103 + 94 j


@pytest.mark.slow
def test_the_budget_is_any_that_searches_know(wide_b: Landscape) -> None:
    decision = found(wide_b, budget="params", sparsity=0.5, train_episode=8)
    assert all(10 * i + 9 * i * j + 4 * j + 3 <= 521 for i, j in wide_b.scored)
    assert any(81 * i + 9 * i * j + 3 * j > 870 for i, j in wide_b.scored)
    assert "removes 0.5 of the params" in decision.notes[-1]
    wide_b.scored.clear()
    recipe = AMC(budget="latency", sparsity=0.25, train_episode=4)
    recipe.clock = lambda before, after, inputs: sum(widths(after)) / 20
    recipe.plan(wide_b.model, IMAGES, wide_b.resources())
    assert all(i + j <= 15 for i, j in wide_b.scored)
    assert wide_b.scored[0] == (7, 7)


def test_a_share_that_goes_takes_the_place_of_that_which_is_kept() -> None:
    (kept,), (given,) = (list(AMC(**one).entries.values()) for one in ({}, {"sparsity": 0.3}))
    assert (kept["sparsity"], AMC().options()["flops_ratio"]) == (0.5, 0.5)
    assert (given["sparsity"], AMC(sparsity=0.3).options()["flops_ratio"]) == (0.3, None)


@pytest.mark.slow
def test_where_the_least_of_all_layers_cannot_be_made_others_may() -> None:
    landscape = Landscape(lambda i, j: j / 10 - i / 1000, cramped="fails")
    way = walk(landscape)
    assert way.bounded({}, 0.6) == 0.6  # beside two of `b` there is no such network
    assert way.bounded({"a": 0.6}, 1.0) == pytest.approx(0.6)  # 486 + 57 j <= 870
    assert way.bounded({}, 1.0) == pytest.approx(0.8)  # 810 + 96 is too much
    decision = found(landscape, train_episode=8)
    assert decision.achieved["candidates"] == len(landscape.scored) > 2
    assert all(i + j >= 10 for i, j in landscape.scored)


@pytest.mark.slow
def test_episodes_that_cannot_be_made_teach_nothing() -> None:
    landscape = Landscape(lambda i, j: j / 10 - i / 1000, cramped="differs")
    decision = found(landscape, train_episode=12)
    assert all(i + j >= 10 for i, j in landscape.scored)
    assert any(note.startswith("candidates that cannot") for note in decision.notes)
    assert decision.achieved["candidates"] == len(landscape.scored) > 1


@pytest.mark.slow
def test_it_beats_the_same_share_of_every_layer_within_the_budget(wide_b: Landscape) -> None:
    decision = found(wide_b, train_episode=30)
    assert wide_b.scored[0] == (6, 6)
    assert all(81 * i + 9 * i * j + 3 * j <= 870 for i, j in wide_b.scored)
    assert all(i >= 2 and j >= 2 for i, j in wide_b.scored)
    assert len(wide_b.scored) == len(set(wide_b.scored)) == decision.achieved["candidates"]
    assert decision.achieved["score"] == max(j / 10 - i / 1000 for i, j in wide_b.scored)
    assert decision.achieved["score"] > decision.achieved["uniform_score"] == 0.6 - 0.006


@pytest.mark.slow
def test_an_equal_seed_takes_the_same_way() -> None:
    ways = []
    for seed in (1, 1, 2):
        landscape = Landscape(lambda i, j: j / 10 - i / 1000)
        found(landscape, seed)
        ways.append(landscape.scored)
    assert ways[0] == ways[1] != ways[2]


@pytest.mark.slow
def test_no_more_are_scored_than_allowed(wide_b: Landscape) -> None:
    assert found(wide_b, max_evaluations=2).achieved["candidates"] == 2


@pytest.mark.parametrize(
    ("mode", "reward", "worth"),
    [
        ("maximize", "score", 0.75),
        ("minimize", "score", -0.75),
        ("maximize", "score_and_flops", -0.25 * math.log(600)),
        ("minimize", "score_and_flops", -0.75 * math.log(600)),
    ],
)
def test_fewer_products_and_fewer_errors_are_worth_more(
    wide_b: Landscape, mode: str, reward: Any, worth: float
) -> None:
    # 81 * 5 + 9 * 5 * 3 + 3 * 3 = 549, taken for 600
    candidate = walk(wide_b).candidate({"a": 0.5, "b": 0.3})
    assert candidate.macs == 549
    candidate.macs = 600
    assert AMC(optimize_mode=mode, reward=reward)._reward(0.75, candidate) == pytest.approx(worth)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"flops_ratio": 1}, r"flops_ratio is the share that is kept, in \(0, 1\), got 1"),
        ({"flops_ratio": 50}, "flops_ratio is a share that is kept, a number from 0 to 1, got 50"),
        ({"lbound": 0.5, "rbound": 0.5}, "lbound is below rbound, got 0.5 and 0.5"),
        ({"train_episode": 0}, "train_episode is a whole number, at least 1"),
        ({"reward": "flops"}, "unknown compressor.reward 'flops'"),
        ({"budget": "params"}, "flops_ratio counts macs: with compressor.budget=params pass"),
        ({"sparsity": 0.3, "flops_ratio": 0.5}, "takes the place of flops_ratio.* 0.3 and 0.5"),
        ({"budget": "flops"}, "unknown compressor.budget 'flops'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_without_a_model(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AMC(**wrong)
