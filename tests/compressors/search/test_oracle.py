import itertools
import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Task
from compressors.pruning.filters import L1Filter, Survey
from compressors.search.oracle import Oracle
from core.errors import IncompatibleModel
from models.edits import history
from models.small.digits import DigitsCNN
from tests.compressors.search.conftest import IMAGES, Landscape, widths


def test_costs_are_those_of_the_narrower_network(wide_b: Landscape) -> None:
    oracle = wide_b.oracle()
    found = oracle.candidate({"a": 0.3, "b": 0.59})  # 7 and 5 filters
    assert (found.macs, found.params) == (81 * 7 + 9 * 35 + 3 * 5, 7 * 10 + 35 * 9 + 5 + 5 * 3 + 3)
    assert found.ratios == pytest.approx({"a": 0.3, "b": 0.5})
    assert oracle.removed(found, "macs") == pytest.approx(1 - 897 / 1740)
    assert oracle.removed(found, "params") == pytest.approx(1 - 408 / 1043)
    assert wide_b.scored == []


def test_what_rounds_to_the_same_is_the_same_and_scored_once(wide_b: Landscape) -> None:
    oracle = wide_b.oracle(max_evaluations=1)
    one, other = oracle.candidate({"a": 0.3}), oracle.candidate({"a": 0.39, "b": 0.05})
    assert one is other
    assert oracle.score(one) == oracle.score(other) == 1 - 0.007
    assert (wide_b.scored, oracle.evaluations, oracle.is_exhausted) == ([(7, 10)], 1, True)


def test_the_best_is_the_very_model_that_was_scored(wide_b: Landscape) -> None:
    oracle = wide_b.oracle(epochs=2)
    for ratios in ({"b": 0.5}, {"a": 0.5}, {"b": 0.2}):
        oracle.score(oracle.candidate(ratios))
    assert wide_b.trained == [(10, 5), (5, 10), (10, 8)]
    assert oracle.best is not None
    assert widths(oracle.best.model) == (5, 10)
    trained = oracle.best.model.h.bias - wide_b.model.h.bias
    assert torch.allclose(trained, torch.tensor(2.0))
    assert oracle.best.decision().model is oracle.best.model


def test_without_training_one_step_is_told_by_its_edits(wide_b: Landscape) -> None:
    oracle = wide_b.oracle(maximize=False)
    for ratios in ({"a": 0.5}, {"b": 0.5}):
        oracle.score(oracle.candidate(ratios))
    assert oracle.best is not None
    assert oracle.best.score == 0.5 - 0.01
    assert oracle.best.decision().edits == oracle.best.candidate.edits


def test_steps_go_on_from_the_scored_model(wide_b: Landscape) -> None:
    oracle = wide_b.oracle()
    oracle.score(oracle.candidate({"a": 0.5}))
    assert oracle.best is not None
    oracle.move(oracle.best)
    further = oracle.candidate({"a": 0.3, "b": 0.4})  # half of `a` is gone and stays gone
    assert further.ratios == pytest.approx({"a": 0.5, "b": 0.4})
    oracle.score(further)
    assert oracle.best.decision().model is oracle.best.model
    assert widths(oracle.best.model) == (5, 6)
    assert len(history(oracle.best.model)) == 2
    assert oracle.removed(further, "macs") == pytest.approx(1 - (81 * 5 + 9 * 30 + 18) / 1740)


def test_latency_is_measured_once_and_only_where_asked(wide_b: Landscape) -> None:
    asked = []

    def clock(before: nn.Module, after: nn.Module, inputs: Tensor) -> float:
        asked.append((widths(before), widths(after), len(inputs)))
        return 0.75

    oracle = wide_b.oracle(clock=clock)
    found = oracle.candidate({"a": 0.5})
    assert asked == []
    assert oracle.removed(found, "latency") == oracle.removed(found, "latency") == 0.25
    assert asked == [((10, 10), (5, 10), 2)]


@pytest.mark.slow
def test_tied_layers_are_one_group() -> None:
    model = DigitsCNN(pretrained=False).eval()
    recipe = L1Filter(sparsity=0.5, exclude=["block1.*"])
    task = recipe._task(model, torch.rand(2, 1, 8, 8), None)
    oracle = Oracle(task, recipe)
    assert all(len(set(layers)) == len(layers) for layers in oracle.groups.values())
    assert max(map(len, oracle.groups.values())) > 1
    assert any("block1" in note and "excluded" in note for note in oracle.notes)
    leader = next(name for name, layers in oracle.groups.items() if len(layers) > 1)
    gone = oracle.candidate({leader: 0.5}).edits.removed
    assert all("out" in gone[f"backbone.{name}"] for name in oracle.groups[leader])
    alone = L1Filter(sparsity=0.5, op_names=[leader])
    (note,) = Oracle(alone._task(model, torch.rand(2, 1, 8, 8), None), alone).notes
    assert note == f"{oracle.groups[leader][1]}: pruned too, tied to {leader}"


class Shuffled(nn.Module):
    """Filters of `a` cannot be removed: the flattened order of their outputs is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.h = nn.Linear(4, 3)
        self.wide = nn.Parameter(torch.ones(1, 4, 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        inner = self.a(images) * self.wide[:, [0, 1, 2, 3]]
        return self.h(self.b(inner).flatten(1))


def shuffled(**options: object) -> Task:
    recipe = L1Filter(sparsity=0.5, **options)
    return recipe._task(Shuffled().eval(), IMAGES, None)


def test_what_cannot_be_removed_is_left_whole_and_told() -> None:
    oracle = Oracle(shuffled(), L1Filter(sparsity=0.5))
    assert list(oracle.groups) == ["b"]
    assert any(note.startswith("a: left whole, because") for note in oracle.notes)
    unused = "unused: left whole, because unused does not take part in the forward pass"
    assert unused in oracle.notes


def test_a_network_without_anything_to_remove_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match=r"no layer can lose filters\. a: left whole"):
        Oracle(shuffled(op_names=["a"]), L1Filter(sparsity=0.5))


def test_an_unknown_group_and_a_whole_layer_are_refused(wide_b: Landscape) -> None:
    oracle = wide_b.oracle()
    with pytest.raises(LookupError, match="unknown group 'c'"):
        oracle.candidate({"c": 0.5})
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1"):
        oracle.candidate({"a": 1})


def test_a_score_that_is_no_number_is_refused() -> None:
    oracle = Landscape(lambda *_: float("nan")).oracle()
    with pytest.raises(ValueError, match="expected a number as score"):
        oracle.score(oracle.candidate({"a": 0.5}))


@pytest.mark.parametrize("how", ["fails", "differs"])
def test_what_cannot_be_made_is_counted_and_has_no_score(how: str) -> None:
    landscape = Landscape(lambda i, j: -i - j, cramped=how)
    oracle = landscape.oracle(max_evaluations=2)
    narrow, wide = oracle.candidate({"a": 0.5, "b": 0.6}), oracle.candidate({"a": 0.5, "b": 0.5})
    assert [oracle.score(c) for c in (narrow, wide, narrow)] == [None, -10, None]
    assert (landscape.scored, oracle.evaluations) == ([(5, 5)], 1)
    assert oracle.best is not None
    assert oracle.best.candidate is wide
    (why,) = oracle.failed.elements()
    assert why == narrow.obstacle
    assert ("too few filters" in why) == (how == "fails")
    assert oracle.removed(narrow, "params") == oracle.removed(narrow, "latency") == 0


def test_an_error_of_whoever_trains_or_scores_is_no_such_candidate(wide_b: Landscape) -> None:
    wide_b.score = lambda _: {}["typo"]
    with pytest.raises(KeyError, match="typo"):
        (oracle := wide_b.oracle()).score(oracle.candidate({"a": 0.5}))
    wide_b.train = lambda *_, **__: {}["slip"]
    with pytest.raises(KeyError, match="slip"):
        (oracle := wide_b.oracle(epochs=1)).score(oracle.candidate({"a": 0.5}))


@pytest.mark.parametrize("part", ["train", "score"])
def test_data_that_do_not_fit_are_no_fault_of_a_candidate(wide_b: Landscape, part: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise IncompatibleModel("other classes")

    setattr(wide_b, part, refuse)
    oracle = wide_b.oracle(epochs=1)
    with pytest.raises(IncompatibleModel, match="other classes"):
        oracle.score(oracle.candidate({"a": 0.5}))
    assert not oracle.failed


def test_what_cannot_be_made_counts_once_however_often_it_is_met() -> None:
    oracle = Landscape(lambda *_: 0.0, cramped="fails").oracle()
    for a in (0.5, 0.5, 0.6):
        oracle.forget()
        assert oracle.candidate({"a": a, "b": 0.6}).obstacle
    assert [*oracle.failed.values()] == [2]


def test_a_group_that_is_lost_on_the_way_is_told_once(
    wide_b: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, survey = wide_b.oracle(), L1Filter.survey

    def without_a(pruner: L1Filter, task: Task) -> Survey:
        seen = survey(pruner, task)
        return replace(seen, tied=seen.tied[1:], blind={"a": "its shape is fixed"})

    monkeypatch.setattr(L1Filter, "survey", without_a)
    for ratio in (0.3, 0.5):
        oracle.score(oracle.candidate({"a": 0.3, "b": ratio}))
        assert oracle.best is not None
        oracle.move(oracle.best)
    assert oracle.notes == ["a: loses no more filters, because its shape is fixed"]
    assert wide_b.scored == [(7, 7), (7, 5)]


def test_an_error_in_counting_is_not_taken_for_the_network(
    wide_b: Landscape, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = wide_b.oracle()
    monkeypatch.setattr("compressors.search.oracle.cost_of", lambda *_: {}["typo"])
    with pytest.raises(KeyError, match="typo"):
        oracle.candidate({"a": 0.5})


@pytest.mark.slow
def test_the_expected_time_is_told_after_the_first_score(
    wide_b: Landscape, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = wide_b.oracle(max_evaluations=30)
    with caplog.at_level(logging.INFO), oracle.watched(total=40):
        for ratio in (0.3, 0.5):
            oracle.score(oracle.candidate({"a": ratio}))
    (said,) = caplog.messages
    assert said.startswith("search: at most 30 candidates, about ")


def test_what_is_not_trained_takes_less_of_the_expected_time(
    wide_b: Landscape, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=10.0)
    oracle = wide_b.oracle()
    monkeypatch.setattr("compressors.search.oracle.time.perf_counter", lambda: next(ticks))
    with caplog.at_level(logging.INFO), oracle.watched(total=4, untrained=3):
        oracle.score(oracle.candidate({"a": 0.3}))
    # begun at 0, scored from 10 to 20, told at 30: one of 30 seconds and three of 10
    assert caplog.messages == ["search: at most 4 candidates, about 60 s altogether"]
