from typing import Any

import pytest

from compressors.base import Decision
from compressors.search.oracle import Oracle
from compressors.search.sensitivity import Sensitivity
from core.errors import ConfigError, IncompatibleModel
from tests.compressors.search.conftest import IMAGES, Landscape, widths

pytestmark = pytest.mark.slow


def pruned(landscape: Landscape, **options: Any) -> Decision:
    given = {"sparsity": 0.5, "budget": "macs", "sparsity_per_iter": 0.25, "epochs": 0, **options}
    given.setdefault("scanned_sparsities", [0.1, 0.2, 0.4])
    return Sensitivity(**given).plan(landscape.model, IMAGES, landscape.resources())


def falling(i: int, j: int) -> float:
    """`a` may lose anything, each filter of `b` costs three points."""
    return 0.9 - 0.03 * (10 - j)


def test_layers_lose_in_proportion_to_what_they_tolerate() -> None:
    # Scan: a 0.4 and more; b 0.1 (0.2 costs .06). Four steps of `a` for one of `b`: at most 1305
    # MACs: 7, 10 (1227); at most 870: a 0.6, b 0.15 -> 4, 9: 324 + 324 + 27 = 675, 5, 9: 837.
    landscape = Landscape(falling)
    decision = pruned(landscape)
    scan = [(9, 10), (8, 10), (6, 10), (10, 9), (10, 8)]
    assert landscape.scored == [(6, 6), (10, 10), *scan, (7, 10), (5, 9)]
    assert decision.model is not None
    assert widths(decision.model) == (5, 9)
    assert decision.achieved["score"] == pytest.approx(0.87)
    assert decision.achieved["candidates"] == len(landscape.scored)


def test_it_ends_before_the_score_falls_too_far() -> None:
    landscape = Landscape(lambda i, j: 0.9 - 0.01 * (10 - i) - 0.03 * (10 - j))
    decision = pruned(landscape)
    assert landscape.scored[-2:] == [(7, 10), (5, 9)]
    assert decision.model is None  # one step, told by its edits
    assert [n for n, s in decision.edits.removed.items() if "out" in s] == ["a"]
    (note,) = [note for note in decision.notes if note.startswith("ended with 0.295 of the macs")]
    assert "from 0.9000 to 0.8200, further than acc_drop_threshold=0.05" in note


def test_where_it_ends_early_the_same_share_of_every_layer_may_still_be_better() -> None:
    landscape = Landscape(
        lambda i, j: 0.95 if i == j == 6 else 0.9 - 0.01 * (10 - i) - 0.03 * (10 - j)
    )
    decision = pruned(landscape)
    assert decision.achieved["score"] == decision.achieved["uniform_score"] == 0.95
    assert [len(decision.edits.removed[name]["out"]) for name in ("a", "b")] == [4, 4]


def test_a_loss_may_rise_by_the_threshold() -> None:
    # Scan: a 0.4, b 0.2 (0.4 costs .08); (7, 9) with 1161 MACs costs .05, (5, 8) with 789 .09
    ways = []
    for mode, sign in (("maximize", 1), ("minimize", -1)):
        landscape = Landscape(lambda i, j, sign=sign: sign * (0.9 - (30 - i - 2 * j) / 100))
        decision = pruned(landscape, optimize_mode=mode, acc_drop_threshold=0.07)
        ended = [note for note in decision.notes if note.startswith("ended")]
        ways.append((landscape.scored, len(ended)))
    assert ways[0] == ways[1]
    assert ways[0][0][-2:] == [(7, 9), (5, 8)]
    assert ways[0][1] == 1


def test_a_first_step_that_falls_too_far_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match=r"changes nothing: the next 0\.25 of the macs"):
        pruned(Landscape(lambda i, j: (i + j) / 20))


def test_a_first_step_that_cannot_be_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressors.search.sensitivity.fitted", lambda *_: None)
    with pytest.raises(IncompatibleModel, match="changes nothing: a network without the next"):
        pruned(Landscape(falling))


def test_it_scans_again_where_it_is_wanted_and_trains_after_each_step() -> None:
    landscape = Landscape(falling)
    decision = pruned(landscape, scans="each", epochs=1)
    assert landscape.trained == [(6, 6), (7, 10), (5, 9), (6, 6)]
    assert landscape.first_epochs == [0, 0, 1, 1]
    assert landscape.scored.count((7, 10)) == 2  # a step, and the beginning of the second scan
    assert decision.model is not None
    trained = decision.model.h.bias - landscape.model.h.bias
    assert float(trained.detach().mean()) == pytest.approx(2)


def test_it_ends_where_the_next_network_cannot_be_made() -> None:
    landscape = Landscape(lambda i, j: 0.9 - 0.001 * (20 - i - j), cramped="differs")
    decision = pruned(landscape, sparsity=0.8)  # 348 MACs: below ten filters
    assert 0.89 <= decision.achieved["score"] < 0.9  # ten filters, and not all
    assert all(i + j >= 10 for i, j in landscape.scored)
    assert any(
        "removed: a network without the next share cannot be made" in n for n in decision.notes
    )


def test_scans_are_not_trained() -> None:
    oracle = Landscape(falling).oracle()
    given = {"sparsity_per_iter": 0.2, "scanned_sparsities": [0.1, 0.2], "sparsity": 0.5}
    once = Sensitivity(**given)  # first, three steps, and the first again; a scan has 1 + 2 x 2
    assert (once.expected(oracle), once.untrained(oracle)) == (1 + 3 + 1 + 5, 5)
    each = Sensitivity(**given, scans="each", epochs=0)
    assert (each.expected(oracle), each.untrained(oracle)) == (1 + 3 + 15, 15)


def test_faults_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        Sensitivity(
            sparsity=0.5, sparsity_per_iter=0, acc_drop_threshold=-1, scans="all", max_evaluations=3
        )
    assert len(caught.value.faults) == 4


def test_what_is_scanned_has_statistics_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[tuple[int, int]] = []
    monkeypatch.setattr(Oracle, "renew", lambda _, model: bool(renewed.append(widths(model))))
    landscape = Landscape(falling)
    pruned(landscape)
    assert renewed == landscape.scored
