import pytest
import torch
from torch import nn

from core.errors import ConfigError
from models.optimization import Optimization, optimizers


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 2))]


@pytest.mark.parametrize("name", sorted(set(optimizers()) - {"sparseadam"}))
def test_every_optimizer_of_torch_makes_a_step_by_name(name: str) -> None:
    (weight,) = weights()
    optimizer = Optimization(optimizer=name, learning_rate=0.1).build_optimizer([weight])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert not torch.equal(weight, torch.ones(2, 2))


def test_names_are_understood_in_any_case() -> None:
    assert isinstance(Optimization(optimizer="AdamW").build_optimizer(weights()), torch.optim.AdamW)


def test_all_faults_are_told_at_once_with_the_nearest_names() -> None:
    with pytest.raises(ConfigError) as told:
        Optimization(optimizer="adamm", scheduler="steplrr", learning_rate=0.0)
    assert len(told.value.faults) == 3
    assert "did you mean 'adam'" in told.value.faults[0]
    assert "did you mean 'steplr'" in told.value.faults[1]
    assert "learning_rate is above 0, got 0.0" in told.value.faults[2]


def test_options_reach_the_optimizer() -> None:
    optimization = Optimization(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.25, optimizer_options={"momentum": 0.9}
    )
    (group,) = optimization.build_optimizer(weights()).param_groups
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (0.5, 0.25, 0.9)


def test_no_weight_decay_leaves_the_default_of_the_optimizer() -> None:
    (group,) = Optimization(optimizer="adamw").build_optimizer(weights()).param_groups
    assert group["weight_decay"] == 0.01


def test_an_option_that_an_optimizer_does_not_have_is_told() -> None:
    with pytest.raises(ConfigError, match=r"optimizer 'adam'.*momentum"):
        Optimization(optimizer_options={"momentum": 0.9}).build_optimizer(weights())


def rates(optimization: Optimization, *, steps: int) -> list[float]:
    optimizer = optimization.build_optimizer(weights())
    description = optimization.build_scheduler(optimizer, steps=steps)
    assert description is not None
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        description["scheduler"].step()
    return seen


def test_a_step_schedule_divides_the_rate() -> None:
    schedule = Optimization(
        learning_rate=1.0, scheduler="step", scheduler_options={"step_size": 2, "gamma": 0.5}
    )
    assert rates(schedule, steps=5) == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_a_cosine_schedule_ends_with_the_training() -> None:
    schedule = Optimization(learning_rate=1.0, scheduler="CosineAnnealingLR")
    assert rates(schedule, steps=4) == pytest.approx([1.0, 0.85355, 0.5, 0.14645], abs=1e-4)


def test_one_cycle_peaks_at_the_learning_rate() -> None:
    schedule = Optimization(learning_rate=2.0, scheduler="onecycle")
    assert max(rates(schedule, steps=10)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "options", "interval"),
    [
        ("cosineannealing", {}, "step"),
        ("cosineannealing", {"T_max": 3}, "epoch"),
        ("cosineannealing", {"interval": "epoch"}, "epoch"),
        ("step", {"step_size": 1}, "epoch"),
        ("step", {"step_size": 1, "interval": "step"}, "step"),
    ],
)
def test_a_schedule_over_the_whole_training_moves_every_step(
    name: str, options: dict[str, object], interval: str
) -> None:
    schedule = Optimization(scheduler=name, scheduler_options=options)
    description = schedule.build_scheduler(schedule.build_optimizer(weights()), steps=10)
    assert description is not None
    assert description["interval"] == interval


def test_no_scheduler_is_none() -> None:
    schedule = Optimization()
    assert schedule.build_scheduler(schedule.build_optimizer(weights()), steps=10) is None


def test_a_scheduler_that_lacks_an_argument_says_which() -> None:
    schedule = Optimization(scheduler="step")
    with pytest.raises(ConfigError, match=r"scheduler 'step'.*step_size"):
        schedule.build_scheduler(schedule.build_optimizer(weights()), steps=10)


def test_an_endless_training_has_no_whole() -> None:
    schedule = Optimization(scheduler="onecycle")
    with pytest.raises(ConfigError, match=r"pass trainer.max_epochs"):
        schedule.build_scheduler(schedule.build_optimizer(weights()), steps=float("inf"))
