from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from compressors.pruning.agp import AGP
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from models.edits import enforce, history

IMAGES = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
SCHEDULE = {
    "initial_sparsity": 0.0,
    "final_sparsity": 0.8,
    "start_epoch": 1,
    "end_epoch": 5,
    "frequency": 2,
}


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = OrderedDict(a=nn.Conv2d(1, 10, 3), f=nn.Flatten(), h=nn.Linear(10, 2))
    return nn.Sequential(layers).eval()


def pruned(told: list[Any] | None = None, **options: Any) -> tuple[nn.Module, list[Any]]:
    """The pruned network, and what was trained: epochs, filters, zeros of the first layer."""
    trained = [] if told is None else told

    def train(model: nn.Module, *, epochs: int, first_epoch: int, after_step: Any) -> None:
        assert first_epoch == sum(done for done, *_ in trained)
        assert after_step is enforce
        trained.append((epochs, model.a.out_channels, int((model.a.weight == 0).sum())))

    given = Resources(
        batches=lambda _: iter([(IMAGES, torch.tensor([0, 1]))]), score=lambda _: 0.0, train=train
    )
    decision = AGP(**{**SCHEDULE, **options}).plan(network(), IMAGES, given)
    assert decision.model is not None
    return decision.model, trained


def test_steps_follow_the_cubic_schedule_and_training_goes_between() -> None:
    # At half of the way 0.8 - 0.8 / 8 = 0.7 of 90 weights; the first step removes nothing.
    model, trained = pruned()
    assert trained == [(1, 10, 0), (2, 10, 0), (2, 10, 63)]
    assert int((model.a.weight == 0).sum()) == 72
    assert len(history(model)) == 2


def test_filters_are_counted_of_what_there_was_at_first() -> None:
    model, trained = pruned(pruning_algorithm="l1_filter", initial_sparsity=0.3)
    assert trained == [(1, 10, 0), (2, 7, 0), (2, 3, 0)]  # 0.8 - 0.5 / 8 = 0.7375 of ten
    assert model.a.out_channels == 2
    largest = network().a.weight.abs().flatten(1).sum(dim=1).argsort()[-2:].sort().values
    assert torch.equal(model.a.weight, network().a.weight[largest])


def test_the_last_step_is_at_the_end_whatever_the_frequency() -> None:
    assert AGP(**{**SCHEDULE, "frequency": 3}).epochs == [1, 4, 5]


@pytest.mark.parametrize("base", ["level", "l1_filter"])
def test_a_loop_of_the_user_prunes_as_the_recipe_does(base: str) -> None:
    model, agp = network(), AGP(**SCHEDULE, pruning_algorithm=base)
    gradual = agp.begin(model, IMAGES)
    changed = [epoch for epoch in range(7) if gradual.update_epoch(epoch) is not None]
    assert changed == [3, 5]  # at epoch 1 the sparsity is 0
    assert history(model) == history(pruned(pruning_algorithm=base)[0])
    assert [agp.sparsity_at(epoch) for epoch in (1, 3, 5)] == pytest.approx([0.0, 0.7, 0.8])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"final_sparsity": 0.01},
            r"level changes nothing\. a: 0\.01 of 90 weights rounds to nothing",
        ),
        ({"final_sparsity": 0.0}, "level: so little of every layer rounds to nothing"),
        (
            {"pruning_algorithm": "activation_mean_rank"},
            r"activation_mean_rank changes nothing\. a: left whole \(no relu is behind it\)",
        ),
    ],
)
def test_what_changes_nothing_is_told_before_any_training(options: Any, why: str) -> None:
    trained: list[Any] = []
    with pytest.raises(IncompatibleModel, match=f"^AGP: pruning_algorithm={why}"):
        pruned(trained, **options)
    assert trained == []


def test_an_initial_sparsity_above_the_final_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"initial_sparsity=0\.9 is above the final one of a"):
        pruned(initial_sparsity=0.9)


def test_what_chooses_among_all_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="slim counts channels of all layers at once"):
        AGP(**SCHEDULE, pruning_algorithm="slim")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        AGP(
            initial_sparsity=-1,
            final_sparsity=1,
            start_epoch=3,
            end_epoch=3,
            frequency=1,
            pruning_algorithm="fpmg",
            sparsity=0.5,  # type: ignore[arg-type]
        )
    text = str(caught.value)
    parts = ("initial_sparsity: ", "final_sparsity: ", "start_epoch < end_epoch", "'fpgm'")
    assert all(part in text for part in (*parts, "got sparsity=0.5"))
