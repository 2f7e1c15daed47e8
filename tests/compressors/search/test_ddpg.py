import math

import pytest
import torch
from torch import nn

from compressors.search.ddpg import (
    Agent,
    Replay,
    Settings,
    Step,
    Steps,
    critic_target,
    follow,
    truncated_normal,
)

STATE = torch.ones(2)


def step(action: float, reward: float = 0.0) -> Step:
    return Step(STATE, action, reward, STATE, True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_slow_copy_goes_a_share_of_the_way() -> None:
    slow, fast = nn.Linear(1, 1), nn.Linear(1, 1)
    for module, value in ((slow, 1.0), (fast, 2.0)):
        nn.init.constant_(module.weight, value)
        nn.init.constant_(module.bias, -value)
    follow(slow, fast, tau=0.1)
    assert (slow.weight.item(), slow.bias.item()) == pytest.approx((1.1, -1.1))
    assert fast.weight.item() == 2.0


def test_a_target_is_the_reward_and_what_follows_if_something_does() -> None:
    rewards, after, last = torch.tensor([1.0, 1.0]), torch.tensor([4.0, 4.0]), torch.tensor([0, 1])
    assert critic_target(rewards, after, last, discount=0.5).tolist() == [3.0, 1.0]


def test_the_mean_reward_is_taken_off() -> None:
    agent = Agent(2, low=0, high=1, seed=0, settings=Settings(hidden=4, memory=0.9))
    column = torch.ones(2, 1)
    one = Steps(column * STATE, column, torch.tensor([[2.0], [4.0]]), column * STATE, column)
    assert agent.target(one).flatten().tolist() == pytest.approx([-1.0, 1.0])  # the mean is 3
    # then 0.9 * 3 + 0.1 * 5 = 3.2
    assert agent.target(one._replace(rewards=5 * column)).flatten().tolist() == pytest.approx(
        [1.8, 1.8]
    )


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.9])
def test_noise_stays_within_the_bounds_and_is_spread_as_a_normal_one_is(mean: float) -> None:
    chance = generator()
    drawn = [truncated_normal(mean, 0.3, low=0.2, high=0.9, generator=chance) for _ in range(2000)]
    assert min(drawn) >= 0.2
    assert max(drawn) <= 0.9
    # mean of a truncated normal: mean + sigma (phi(a) - phi(b)) / (Phi(b) - Phi(a))
    a, b = ((bound - mean) / 0.3 for bound in (0.2, 0.9))
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b)]
    shares = [(1 + math.erf(x / math.sqrt(2))) / 2 for x in (a, b)]
    wanted = mean + 0.3 * (density[0] - density[1]) / (shares[1] - shares[0])
    assert sum(drawn) / 2000 == pytest.approx(wanted, abs=0.02)  # four standard errors of .2


def test_no_noise_gives_the_mean_and_little_noise_something_near_it() -> None:
    assert truncated_normal(0.4, 0.0, low=0.2, high=0.9, generator=generator()) == 0.4
    near = truncated_normal(0.9, 1e-3, low=0.2, high=0.9, generator=generator())
    assert 0.89 < near <= 0.9


def test_the_latest_steps_are_remembered_and_drawn_once_each() -> None:
    replay = Replay(3)
    for number in range(5):
        replay.add(step(float(number)))
    drawn = replay.sample(10, generator())
    assert sorted(drawn.actions.flatten().tolist()) == [2.0, 3.0, 4.0]
    assert drawn.states.shape == (3, 2)
    assert len(replay.sample(2, generator()).rewards) == 2


@pytest.mark.parametrize("best", [0.35, 0.75])
@pytest.mark.slow
def test_the_agent_finds_the_best_action_of_a_bandit(best: float) -> None:
    # one state, one step, reward -(a - best)^2; bounds 0.2 and 1
    settings = Settings(hidden=32, actor_rate=1e-3, critic_rate=1e-2)
    agent = Agent(2, low=0.2, high=1.0, seed=0, settings=settings)
    for episode in range(300):
        action = agent.any_action() if episode < 50 else agent.noisy_action(STATE)
        agent.remember(step(action, -10 * (action - best) ** 2))
        if episode >= 50:
            agent.learn()
            agent.calm_down()
    assert agent.sigma < 1e-5
    assert agent.action(STATE) == pytest.approx(best, abs=0.1)


def test_an_equal_seed_gives_an_equal_agent_and_leaves_the_stream_alone() -> None:
    told = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        agent = Agent(2, low=0, high=1, seed=seed, settings=Settings(hidden=4))
        for _ in range(3):
            action = agent.noisy_action(STATE)
            agent.remember(step(action, action))
            agent.learn()
        told.append((agent.any_action(), agent.action(STATE)))
        assert torch.equal(torch.rand(1), torch.rand(1, generator=generator(0)))
    assert told[0] == told[1] != told[2]
