from typing import Any

import pytest
from torch import nn

from compressors.base import Decision
from compressors.search.auto_compress import AutoCompress
from compressors.search.oracle import Oracle
from core.errors import ConfigError
from models.edits import history
from tests.compressors.search.conftest import IMAGES, Landscape, epochs_of, widths


def macs(i: int, j: int) -> int:
    return 81 * i + 9 * i * j + 3 * j


def found(landscape: Landscape, **options: Any) -> Decision:
    tiny = {"sparsity": 0.5, "num_iterations": 2, "admm_iterations": 2, "max_evaluations": 3}
    tiny["cool_down_rate"] = 0.9  # steps enough to use up the candidates
    recipe = AutoCompress(**{**tiny, **options})
    return recipe.plan(landscape.model, IMAGES, landscape.resources())


@pytest.mark.slow
def test_each_round_takes_an_equal_share_of_what_is_left_and_trains_before(
    wide_b: Landscape,
) -> None:
    decision = found(wide_b)
    model = decision.model
    assert model is not None
    # of 1740: a half at the end, so 0.7071 after the first round
    assert macs(*widths(model)) <= 870
    assert wide_b.trained[:2] == [(10, 10)] * 2
    between = wide_b.trained[2]
    assert wide_b.trained[2:] == [between] * 2 + [(6, 6)]
    assert wide_b.first_epochs == [0, 1, 2, 3, 0]
    assert 870 < macs(*between) <= 0.7072 * 1740
    assert len(history(model)) == 2
    # all alike, then twice a walk of three and what came of it, and all alike after four epochs
    assert len(wide_b.scored) == decision.achieved["candidates"] == 1 + 2 * (3 + 1) + 1
    assert decision.notes[-1].count("after 4 epochs of training") == 2
    assert wide_b.scored[4] == between
    assert decision.achieved["score"] == wide_b.height(*widths(model))
    assert decision.achieved["uniform_score"] == 0.6 - 0.006


@pytest.mark.slow
def test_what_training_left_above_the_budget_goes_too(
    wide_b: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoCompress, "_trained", lambda _, __, standing, *___: standing)
    decision = found(wide_b, num_iterations=1)
    # the same share of both, as nothing was gone
    assert [len(decision.edits.removed[name]["out"]) for name in ("a", "b")] == [4, 4]
    assert wide_b.scored[-1] == (6, 6)
    assert not wide_b.trained
    assert decision.notes[-1].count("untrained") == 2


@pytest.mark.slow
def test_candidates_of_a_later_round_go_on_with_its_epochs() -> None:
    landscape = Landscape(lambda i, j: i / 10)
    found(landscape, epochs=1, admm_iterations=1, max_evaluations=2)
    # all alike, a walk of two and what it came to; another; and all alike for a second epoch
    assert landscape.first_epochs == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [landscape.trained[n] for n in (0, 3, -1)] == [(6, 6), (10, 10), (6, 6)]


@pytest.mark.slow
def test_the_weights_that_come_out_are_the_trained_ones(wide_b: Landscape) -> None:
    model = found(wide_b, admm_epochs=2).model
    assert isinstance(model, nn.Module)
    # made-up training adds its epochs to the bias of the head: twice two of two
    assert (model.h.bias - wide_b.model.h.bias).tolist() == pytest.approx([8.0] * 3)


def test_it_always_needs_training() -> None:
    assert "train" in AutoCompress(sparsity=0.5).needs


def test_quick_is_at_most_ten_epochs() -> None:
    quick, paper = AutoCompress(sparsity=0.5), AutoCompress(sparsity=0.5, effort="paper")
    assert quick.num_iterations * quick.admm_iterations * quick.admm_epochs == 9
    assert (paper.num_iterations, paper.admm_iterations, paper.admm_epochs) == (3, 30, 5)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_iterations": 0}, "compressor.num_iterations is a whole number, at least 1, got 0"),
        ({"num_iterations": None}, "compressor.num_iterations is a whole number"),
        ({"admm_iterations": 0}, "compressor.admm_iterations is a whole number"),
        ({"admm_epochs": 1.5}, "compressor.admm_epochs is a whole number"),
        ({"row": 0}, "compressor.row is above 0"),
        ({"base_algo": "level"}, "unknown compressor.base_algo 'level'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_without_a_model(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        AutoCompress(**{"sparsity": 0.5, **wrong})


@pytest.mark.slow
def test_what_training_comes_to_gets_statistics_of_its_own(
    wide_b: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[float] = []

    def renew(_: Oracle, model: nn.Module) -> bool:
        epochs.append(epochs_of(wide_b.model, model))
        return False

    monkeypatch.setattr(Oracle, "renew", renew)
    found(wide_b, num_iterations=1)
    assert epochs == [0.0] * (len(epochs) - 1) + [2.0]  # candidates of the walk, what it led to
