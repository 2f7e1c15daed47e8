import random
from typing import Any

import pytest

from compressors.base import Decision
from compressors.search.budget import Budget
from compressors.search.simulated_annealing import SimulatedAnnealing
from core.errors import ConfigError, IncompatibleModel
from models.edits import history
from tests.compressors.search.conftest import IMAGES, Landscape


def annealed(landscape: Landscape, seed: int = 0, **options: Any) -> Decision:
    recipe = SimulatedAnnealing(**{"sparsity": 0.5, "name": "annealing", **options})
    return recipe.plan(landscape.model, IMAGES, landscape.resources(seed))


@pytest.mark.slow
def test_it_beats_the_same_share_of_every_layer(wide_b: Landscape) -> None:
    # within 870 MACs: 0.594 for 6, 6; at best 0.996 for 4, 10; eight of `b` score 0.8 at most
    decision = annealed(wide_b)
    assert wide_b.scored[0] == (6, 6)
    assert all(81 * i + 9 * i * j + 3 * j <= 870 for i, j in wide_b.scored)
    assert decision.achieved["uniform_score"] == 0.6 - 0.006
    assert decision.achieved["score"] == max(j / 10 - i / 1000 for i, j in wide_b.scored) > 0.8
    assert decision.achieved["candidates"] == len(wide_b.scored) == len(set(wide_b.scored))
    assert decision.model is None
    assert "scores are made up" in decision.notes
    assert any("the same share of every layer removes 0.5 of the macs" in n for n in decision.notes)


@pytest.mark.slow
def test_an_equal_seed_takes_the_same_way() -> None:
    ways = []
    for seed in (1, 1, 2):
        landscape = Landscape(lambda i, j: j / 10 - i / 1000)
        annealed(landscape, seed)
        ways.append(landscape.scored)
    assert ways[0] == ways[1] != ways[2]


def test_no_more_are_scored_than_allowed(wide_b: Landscape) -> None:
    assert annealed(wide_b, max_evaluations=3).achieved["candidates"] == 3
    assert len(wide_b.scored) == 3


@pytest.mark.slow
def test_where_nothing_is_better_every_layer_loses_the_same() -> None:
    peak = Landscape(lambda i, j: -float(abs(i - 6) + abs(j - 6)))
    decision = annealed(peak, max_evaluations=5)
    assert {n: len(s["out"]) for n, s in decision.edits.removed.items() if "out" in s} == {
        "a": 4,
        "b": 4,
    }


@pytest.mark.slow
def test_a_worse_one_is_gone_on_with_while_it_is_hot() -> None:
    ways = []
    for preset in ("points", "nni"):  # a step down is 100 points at 3, or a fraction of 1 at 100
        peak = Landscape(lambda i, j: -float(abs(i - 6) + abs(j - 6)))
        annealed(peak, seed=3, preset=preset, max_evaluations=10)
        ways.append(peak.scored)
    assert ways[1] != ways[0][: len(ways[1])]


@pytest.mark.slow
def test_shifts_are_small_where_it_is_cold(wide_b: Landscape) -> None:
    recipe, oracle = SimulatedAnnealing(sparsity=0.5), wide_b.oracle()
    budget, chance = Budget(quantity="macs", sparsity=0.5), random.Random(0)
    first = {"a": 0.45, "b": 0.45}
    near, far = (
        [recipe._neighbour(oracle, budget, first, t, chance).candidate for _ in range(8)]
        for t in (0.05, 3.0)
    )
    assert {(c.params, c.macs) for c in near} == {(411, 828)}
    assert len({(c.params, c.macs) for c in far}) > 2


@pytest.mark.slow
def test_a_loss_is_made_small_on_the_same_way() -> None:
    ways = []
    for mode, sign in (("maximize", 1), ("minimize", -1)):
        landscape = Landscape(lambda i, j, sign=sign: sign * (j / 10 - i / 1000))
        decision = annealed(landscape, optimize_mode=mode, max_evaluations=12)
        ways.append((landscape.scored, sign * decision.achieved["score"]))
    assert ways[0] == ways[1]


@pytest.mark.slow
def test_candidates_are_trained_and_the_trained_one_comes_out(wide_b: Landscape) -> None:
    decision = annealed(wide_b, epochs=1, max_evaluations=2)
    assert wide_b.trained == wide_b.scored
    assert decision.model is not None
    assert float((decision.model.h.bias - wide_b.model.h.bias).detach().mean()) == pytest.approx(1)
    assert len(history(decision.model)) == 1


@pytest.mark.slow
def test_the_walk_goes_past_what_cannot_be_made() -> None:
    # within 609 MACs, all alike are 4, 4; of 5, 4 and 4, 7 the second has ten
    landscape = Landscape(lambda i, j: i, cramped="differs")
    decision = annealed(landscape, sparsity=0.65, max_evaluations=8)
    assert all(i + j >= 10 for i, j in landscape.scored)
    assert 1 < len(landscape.scored) == decision.achieved["candidates"] <= 8
    assert decision.achieved["score"] == max(landscape.height(*w) for w in landscape.scored)
    (note,) = [note for note in decision.notes if note.startswith("candidates that cannot be")]
    assert "because the removed and the masked model differ by" in note


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("fails", r"annealing: no network that loses the same share.*too few filters"),
        (
            "differs",
            r"found nothing\. candidates that cannot be made .*: \d+, because .* differ by",
        ),
    ],
)
def test_where_nothing_can_be_made_the_causes_are_told(how: str, sentence: str) -> None:
    # 139 of 1740 MACs allow one filter of `a` and four of `b`
    landscape = Landscape(lambda i, j: 0, cramped=how)
    with pytest.raises(IncompatibleModel, match=sentence):
        annealed(landscape, sparsity=0.92, stop_temperature=2.5)
    assert landscape.scored == []


def test_temperatures_that_are_given_win_over_the_preset() -> None:
    walk = SimulatedAnnealing(sparsity=0.5, preset="nni", start_temperature=50.0)
    assert (walk.temperatures[0], walk.stop_temperature, walk.unit) == (50.0, 20.0, 1.0)
    with pytest.raises(ConfigError, match="below start_temperature, got 20 and 10"):
        SimulatedAnnealing(sparsity=0.5, preset="nni", start_temperature=10.0)


@pytest.mark.parametrize(("candidates", "each", "count"), [(13, 1, 12), (41, 10, 4), (1, 1, 1)])
def test_a_walk_without_a_rate_is_cold_when_its_candidates_are_used_up(
    candidates: int, each: int, count: int
) -> None:
    given = {"max_evaluations": candidates, "candidates_per_temperature": each}
    walk = SimulatedAnnealing(sparsity=0.5, cool_down_rate=None, **given)
    assert len(walk.temperatures) == count
    assert walk.temperatures[0] == 3
    rate = (0.05 / 3) ** (1 / count)
    assert walk.temperatures[-1] * rate == pytest.approx(0.05)


def test_temperatures_fall_from_start_to_stop() -> None:
    walk = SimulatedAnnealing(sparsity=0.5).temperatures
    assert (len(walk), walk[0]) == (39, 3.0)
    assert walk[-1] > 0.05 >= walk[-1] * 0.9
    nni = SimulatedAnnealing(sparsity=0.5, preset="nni")
    assert (nni.temperatures[0], len(nni.temperatures), nni.unit) == (100.0, 16, 1.0)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SimulatedAnnealing(
            sparsity=0.5,
            start_temperature=0,
            cool_down_rate=1,
            perturbation_magnitude=True,
            preset="nmi",
        )
    assert len(caught.value.faults) == 4
    with pytest.raises(ConfigError) as caught:
        SimulatedAnnealing(
            budget="flops",
            base_algo="level",
            effort="slow",
            optimize_mode="max",
            epochs=-1,
            max_evaluations=0,
        )  # type: ignore[arg-type]
    assert len(caught.value.faults) == 6
    with pytest.raises(ConfigError, match="below start_temperature, got 3 and 3"):
        SimulatedAnnealing(sparsity=0.5, stop_temperature=3.0)


def test_one_network_has_one_budget(wide_b: Landscape) -> None:
    entries = [{"op_names": [name], "sparsity": s} for name, s in (("a", 0.3), ("b", 0.4))]
    with pytest.raises(ConfigError, match=r"one budget for the whole network, got \[0.3, 0.4\]"):
        annealed(wide_b, config_list=entries, sparsity=None)
