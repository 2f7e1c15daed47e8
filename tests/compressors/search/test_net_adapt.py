from typing import Any

import pytest

from compressors.base import Decision
from compressors.search.net_adapt import NetAdapt
from core.errors import ConfigError
from models.edits import history
from tests.compressors.search.conftest import IMAGES, Landscape, epochs_of, widths

pytestmark = pytest.mark.slow


def adapted(landscape: Landscape, **options: Any) -> Decision:
    recipe = NetAdapt(**{"sparsity": 0.5, "sparsity_per_iteration": 0.25, **options})
    return recipe.plan(landscape.model, IMAGES, landscape.resources())


def test_each_step_is_taken_by_the_layer_that_bears_it_best(wide_b: Landscape) -> None:
    # Goals: 1740 (1 - .25) = 1305, so a: 171 i + 30 -> 7; b: 810 + 93 j -> 5. From 7, 10 with 1227
    # MACs on to 0.705 - .25: at most 870, not 792, so a: 4; b: 567 + 66 j -> 4.
    decision = adapted(wide_b)
    assert wide_b.scored == [(6, 6), (7, 10), (10, 5), (4, 10), (7, 4)]
    assert decision.model is not None
    assert widths(decision.model) == (4, 10)
    assert len(history(decision.model)) == 2
    assert decision.achieved == {"candidates": 5, "score": 0.996, "uniform_score": 0.594}
    assert "filters that are gone: a 0.60, b 0.00" in decision.notes


def test_where_no_layer_gets_there_alone_all_go_together(wide_b: Landscape) -> None:
    # 0.92 of 1740 leaves 139: a alone 201, b alone 903; together 1, 1 with 93 (2, 2: 204)
    decision = adapted(wide_b, sparsity=0.92, sparsity_per_iteration=0.92)
    assert wide_b.scored == [(1, 1), (1, 1)]
    assert decision.model is None


def test_a_worse_way_is_not_taken() -> None:
    # the first step loses least in `a`, and the same share of both is best at the end
    trap = Landscape(lambda i, j: 0.9 if (i, j) == (6, 6) else j / 20)
    decision = adapted(trap)
    assert decision.achieved["score"] == 0.9
    assert any("so the same share of every layer was taken" in note for note in decision.notes)
    assert decision.model is None


def test_short_term_training_goes_on_from_step_to_step(wide_b: Landscape) -> None:
    decision = adapted(wide_b, effort="paper")
    # the same share of both is trained once more before it is compared
    assert wide_b.trained == wide_b.scored == [(6, 6), (7, 10), (10, 5), (4, 10), (7, 4), (6, 6)]
    assert wide_b.first_epochs == [0, 0, 0, 1, 1, 1]
    assert decision.model is not None
    trained = decision.model.h.bias - wide_b.model.h.bias
    assert float(trained.detach().mean()) == pytest.approx(2)  # one epoch in each of two steps


def test_the_same_share_of_every_layer_is_trained_for_as_long() -> None:
    # after two epochs 0.75, more than 0.7 after one, and less than 0.8 after two
    landscape = Landscape(lambda i, j: 0.6 if i == j == 6 else 0.55, gain=0.1)
    decision = adapted(landscape, short_term_epochs=1)
    assert decision.achieved["score"] == decision.achieved["uniform_score"] == pytest.approx(0.8)
    assert decision.model is not None
    assert widths(decision.model) == (6, 6)
    assert epochs_of(landscape.model, decision.model) == 2
    assert landscape.trained[-1] == (6, 6)
    assert landscape.first_epochs == [0, 0, 0, 1, 1, 1]
    assert decision.notes[-1].endswith(
        "at a score of 0.8000 after 2 epochs of training, the search a score of 0.7500 after 2 "
        "epochs of training, so the same share of every layer was taken"
    )


def test_where_all_alike_cannot_be_made_the_search_has_something_else() -> None:
    # at most 522 MACs: all alike 4, 4 with fewer than ten; `a` alone 2, 10; `b` never alone
    landscape = Landscape(lambda i, j: j / 10, cramped="differs")
    decision = adapted(landscape, sparsity=0.7, sparsity_per_iteration=0.7)
    assert landscape.scored == [(2, 10)]
    assert len(decision.edits.removed["a"]["out"]) == 8
    assert decision.achieved == {"candidates": 1, "score": 1.0}
    assert (
        "at nothing that can be made, the search a score of 1.0000 untrained"
        in (decision.notes[-1])
    )


def test_a_latency_is_met(wide_b: Landscape) -> None:
    recipe = NetAdapt(sparsity=0.3, budget="latency", sparsity_per_iteration=0.2)
    recipe.clock = lambda before, after, inputs: sum(widths(after)) / 20
    decision = recipe.plan(wide_b.model, IMAGES, wide_b.resources())
    assert wide_b.scored == [(7, 7), (6, 10), (10, 6), (4, 10), (6, 8)]
    assert decision.achieved["score"] == 0.996


def test_faults_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        NetAdapt(sparsity=0.5, sparsity_per_iteration=1, max_evaluations=3)
    assert len(caught.value.faults) == 2
