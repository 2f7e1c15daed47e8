"""Learning by trial which number to choose in which state: deep deterministic policy gradient."""

import copy
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an agent learns; the defaults are those of He et al., AMC, ECCV 2018.

    Args:
        hidden: Width of the two hidden layers of actor and critic.
        actor_rate: Learning rate of the actor.
        critic_rate: Learning rate of the critic.
        discount: What a reward is worth one step earlier.
        tau: How far the slow copies of both follow them after each step of learning.
        batch: Steps that are learned from at once.
        capacity: Steps that are remembered.
        noise: Standard deviation of the first noisy actions, as a share of their range.
        decay: Factor of the noise from one episode to the next.
        memory: Of the mean reward that is taken off every reward.
    """

    hidden: int = 300
    actor_rate: float = 1e-4
    critic_rate: float = 1e-3
    discount: float = 1.0
    tau: float = 0.01
    batch: int = 64
    capacity: int = 2000
    noise: float = 0.5
    decay: float = 0.95
    memory: float = 0.95


class Step(NamedTuple):
    """What was done in a state, what came of it, and whether the episode ended there."""

    state: Tensor
    action: float
    reward: float
    next_state: Tensor
    last: bool


class Steps(NamedTuple):
    """Several of them: states [B, D], actions [B, 1], rewards [B, 1], last [B, 1] as 0 or 1."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    next_states: Tensor
    last: Tensor


class Replay:
    """The latest steps; more than the capacity push out the earliest.

    Args:
        capacity: How many.
    """

    def __init__(self, capacity: int) -> None:
        self._steps: deque[Step] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Step) -> None:
        """Remember a step."""
        self._steps.append(step)

    def sample(self, count: int, generator: torch.Generator) -> Steps:
        """Different steps by chance, all of them where there are no more."""
        picks = torch.randperm(len(self), generator=generator)[:count].tolist()
        steps = [self._steps[index] for index in picks]
        numbers = torch.tensor([[step.action, step.reward, float(step.last)] for step in steps])
        actions, rewards, last = numbers.split(1, dim=1)
        states = torch.stack([step.state for step in steps])
        next_states = torch.stack([step.next_state for step in steps])
        return Steps(states, actions, rewards, next_states, last)


class Actor(nn.Module):
    """From a state to the action that is best, as far as known, between two bounds."""

    def __init__(self, states: int, hidden: int, *, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.first, self.second = nn.Linear(states, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Actions [B, 1] of states [B, D]."""
        inside = self.second(self.first(states).relu()).relu()
        share: Tensor = self.last(inside).sigmoid()
        return self.low + (self.high - self.low) * share


class Critic(nn.Module):
    """From a state and an action to the reward that is to be expected."""

    def __init__(self, states: int, hidden: int) -> None:
        super().__init__()
        self.of_state, self.of_action = nn.Linear(states, hidden), nn.Linear(1, hidden)
        self.second, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Values [B, 1] of states [B, D] and actions [B, 1]."""
        first = (self.of_state(states) + self.of_action(actions)).relu()
        value: Tensor = self.last(self.second(first).relu())
        return value


class Agent:
    """Chooses, remembers, learns; all chance comes from the seed.

    Args:
        states: Length of a state.
        low: Least action.
        high: Largest action.
        seed: Of weights, noise and memory.
        settings: How it learns.

    Reference:
        Lillicrap et al., Continuous Control with Deep Reinforcement Learning, ICLR 2016,
        algorithm 1; noise and the mean taken off the reward as in He et al., AMC, ECCV 2018.
    """

    def __init__(
        self, states: int, *, low: float, high: float, seed: int, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.low, self.high = low, high
        self.chance = torch.Generator().manual_seed(seed)
        self.sigma = self.settings.noise * (high - low)
        self.replay = Replay(self.settings.capacity)
        self.mean_reward: float | None = None
        hidden = self.settings.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(states, hidden, low=low, high=high)
            self.critic = Critic(states, hidden)
        self.slow_actor, self.slow_critic = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), lr=self.settings.actor_rate)
        self._critic_steps = torch.optim.Adam(
            self.critic.parameters(), lr=self.settings.critic_rate
        )

    def any_action(self) -> float:
        """An action by chance, each as likely."""
        share = torch.rand((), generator=self.chance, dtype=torch.float64)
        return self.low + (self.high - self.low) * float(share)

    def action(self, state: Tensor) -> float:
        """The best action as far as known, state [D]."""
        with torch.no_grad():
            return float(self.actor(state[None]))

    def noisy_action(self, state: Tensor) -> float:
        """An action near the best one."""
        best = self.action(state)
        return truncated_normal(
            best, self.sigma, low=self.low, high=self.high, generator=self.chance
        )

    def calm_down(self) -> None:
        """Less noise from now on."""
        self.sigma *= self.settings.decay

    def remember(self, step: Step) -> None:
        """Keep a step to learn from."""
        self.replay.add(step)

    def learn(self) -> None:
        """One step of critic and actor on remembered steps."""
        steps = self.replay.sample(self.settings.batch, self.chance)
        target = self.target(steps)
        with torch.enable_grad():
            loss = nn.functional.mse_loss(self.critic(steps.states, steps.actions), target)
            _descend(self._critic_steps, loss)
            value = self.critic(steps.states, self.actor(steps.states)).mean()
            _descend(self._actor_steps, -value)
        follow(self.slow_actor, self.actor, tau=self.settings.tau)
        follow(self.slow_critic, self.critic, tau=self.settings.tau)

    def target(self, steps: Steps) -> Tensor:
        """What the critic should have said, [B, 1]: reward over the mean, and what comes after."""
        now, memory = float(steps.rewards.mean()), self.settings.memory
        before = now if self.mean_reward is None else self.mean_reward
        self.mean_reward = memory * before + (1 - memory) * now
        with torch.no_grad():
            after = self.slow_critic(steps.next_states, self.slow_actor(steps.next_states))
        return critic_target(
            steps.rewards - self.mean_reward, after, steps.last, discount=self.settings.discount
        )


def critic_target(rewards: Tensor, after: Tensor, last: Tensor, *, discount: float) -> Tensor:
    """Reward of a step and the discounted value of what follows; nothing follows the last.

    Args:
        rewards: Any shape.
        after: Value of the state that follows and of what is done there, same shape.
        last: 1 where the episode ended, else 0, same shape.
        discount: In [0, 1].
    """
    return rewards + discount * (1 - last) * after


def follow(slow: nn.Module, fast: nn.Module, *, tau: float) -> None:
    """Move the weights of `slow` by the share `tau` of the way to those of `fast`, in place."""
    with torch.no_grad():
        for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
            mine.lerp_(theirs, tau)


def truncated_normal(
    mean: float, sigma: float, *, low: float, high: float, generator: torch.Generator
) -> float:
    """A normal number, given that it lies between two bounds.

    Args:
        mean: Of the whole distribution, between the bounds.
        sigma: Of the whole distribution; 0 gives the mean.
        low: Least value.
        high: Largest value.
        generator: Of the one number that is drawn.
    """
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    if sigma == 0:
        return mean
    below, above = (_normal_share((bound - mean) / sigma) for bound in (low, high))
    inside = torch.tensor(below + share * (above - below), dtype=torch.float64)
    drawn = mean + sigma * float(torch.special.ndtri(inside))
    return min(max(drawn, low), high)


def _normal_share(value: float) -> float:
    """Probability that a standard normal number is below a value."""
    return (1 + math.erf(value / math.sqrt(2))) / 2


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
