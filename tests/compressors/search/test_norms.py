"""BatchNorm statistics that belong to the network that is scored."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compressors.pruning.filters import L1Filter
from compressors.resources import Resources
from compressors.search.norms import estimate_norms
from compressors.search.oracle import Oracle
from compressors.search.simulated_annealing import SimulatedAnnealing
from core.errors import IncompatibleModel
from models.edits import history

LABELS = torch.zeros(3, dtype=torch.int64)


def batch(*values: float) -> tuple[Tensor, Tensor]:
    """One image of one pixel a value."""
    return torch.tensor(values).view(-1, 1, 1, 1), LABELS[: len(values)]


def test_means_and_variances_are_those_of_the_batches_and_each_counts_alike() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1, momentum=0.25), nn.Dropout(0.5)).eval()
    assert estimate_norms(model, [batch(1.0, 3.0), batch(9.0), batch(5.0, 9.0)])
    assert model[0].running_mean.tolist() == [4.5]  # of 2 and 7
    assert model[0].running_var.tolist() == [5.0]  # of 2 and 8
    assert model[0].momentum == 0.25
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("norm", "batches"),
    [
        (nn.LayerNorm(1), [batch(1.0, 3.0)]),
        (nn.BatchNorm2d(1, track_running_stats=False), [batch(1.0, 3.0)]),
        (nn.BatchNorm2d(1), [batch(1.0)]),
    ],
)
def test_what_has_nothing_to_estimate_stays(
    norm: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    assert not estimate_norms(norm.eval(), batches)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_a_failing_pass_leaves_no_norm_in_training() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Linear(2, 1)).eval()
    with pytest.raises(RuntimeError):
        estimate_norms(model, [batch(1.0, 3.0)])
    assert not model[0].training
    assert model[0].momentum == 0.1


class Normed(nn.Module):
    """Its score is its running mean, which belongs to the whole network."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.h = nn.Linear(4, 3)
        nn.init.constant_(self.a.weight, 1.0)
        self.norm.running_mean.fill_(100.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.h(self.norm(self.a(images)).flatten(1))


GIVEN = Resources(
    batches=lambda count: [batch(1.0, 3.0)] if count == 2 else [],
    score=lambda model: -float(model.norm.running_mean.mean()),
    train=lambda *_, **__: None,
)


def oracle(samples: int) -> Oracle:
    recipe = L1Filter(sparsity=0.5)
    task = recipe._task(Normed().eval(), batch(1.0, 3.0)[0], None)
    return Oracle(replace(task, resources=GIVEN), recipe, statistics_samples=samples)


def test_an_untrained_candidate_is_scored_with_statistics_of_its_own() -> None:
    asked = oracle(2)
    assert [asked.score(asked.candidate({"a": ratio})) for ratio in (0.5, 0.25)] == [-2.0, -2.0]
    assert asked.best is not None
    chosen = asked.best.decision().model
    assert chosen is not None  # edits alone would not give these statistics
    assert chosen.norm.running_mean.tolist() == [2.0, 2.0]
    assert len(history(chosen)) == 1
    (note,) = (note for note in asked.notes if "BatchNorm" in note)
    assert "on up to 2 samples" in note


def test_zero_samples_leave_the_statistics() -> None:
    asked = oracle(0)
    assert asked.score(asked.candidate({"a": 0.5})) == -100.0
    assert asked.best is not None
    assert asked.best.decision().model is None
    assert not any("BatchNorm" in note for note in asked.notes)


def test_statistics_alone_are_no_compression() -> None:
    recipe = SimulatedAnnealing(sparsity=0.0, statistics_samples=2)
    with pytest.raises(IncompatibleModel, match="changes nothing"):
        recipe.compress(Normed(), batch(1.0, 3.0)[0], GIVEN)


def test_a_search_hands_its_samples_on_and_records_them() -> None:
    recipe = SimulatedAnnealing(sparsity=0.25, statistics_samples=2, max_evaluations=2)
    found = recipe.compress(Normed(), batch(1.0, 3.0)[0], GIVEN)
    assert found.model.norm.running_mean.tolist() == [2.0] * found.model.a.out_channels
    assert found.report.requested["statistics_samples"] == 2
    assert found.report.achieved["score"] == found.report.achieved["uniform_score"] == -2.0
