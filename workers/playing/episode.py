"""One episode of a trained policy, step by step, and how well its critic predicted it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.environments import EnvironmentSpec
from workers.processes.preflight import environment_output

TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Step:
    """A state of an episode: what the policy sees, and what it does."""

    env_id: str
    title: str  # which episode it is
    index: int  # steps taken so far
    reward: float  # of the last of them; 0 before the first
    episode_return: float  # so far
    observation: tuple[float, ...]  # [O]
    extent: tuple[float, ...]  # [O], the largest size of each component, declared or seen so far
    probabilities: tuple[float, ...]  # [A], pi(a|s)
    value: float  # V(s)
    action: int | None  # the one that is taken now, counted from 0; None at the end
    ending: str = ""  # how the episode ended; "" while it goes on
    picture: str = ""  # the environment's own, as text; "" where it draws none


@dataclass(frozen=True, slots=True)
class Player:
    """A policy in an environment, and the discount with which its critic learned, where that is known."""

    env: gymnasium.Env[Any, Any]
    environment: EnvironmentSpec
    policy: Policy
    greedy: bool
    rng: np.random.Generator
    gamma: float | None

    def play(self, title: str, seed: int, show: Callable[[Step], None]) -> str:
        """Play an episode and show every step, the first and the last state included; return a line about it."""
        rewards, values = list[float](), list[float]()
        for step in self._steps(title, seed):
            show(step)
            rewards.append(step.reward)
            values.append(step.value)
        error = "unknown"
        if self.gamma is not None:
            error = f"{mean_value_error(rewards[1:], values, step.ending == TERMINATED, self.gamma):+.2f}"
        return f"return {step.episode_return:g}, {step.index} steps, {step.ending}, mean value error {error}"

    def _steps(self, title: str, seed: int) -> Iterator[Step]:
        with environment_output():
            observation, _ = self.env.reset(seed=seed)
        space: Any = self.env.observation_space
        bounds = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64)
        extent: NDArray[np.float64] = np.where(bounds < 1e6, bounds, 0.0)  # some declare the largest float there is
        index, reward, episode_return, ending = 0, 0.0, 0.0, ""
        while True:
            batch = np.asarray(observation)[None]  # [1, O]
            with environment_output():
                picture = str(self.env.render()) if self.env.render_mode == "ansi" else ""
            extent = np.fmax(extent, np.abs(batch[0]))
            action = None if ending else int(self.policy.actions(batch, greedy=self.greedy, rng=self.rng)[0])
            yield Step(
                env_id=self.environment.spec.id,
                title=title,
                index=index,
                reward=reward,
                episode_return=episode_return,
                observation=tuple(batch[0].tolist()),
                extent=tuple(extent.tolist()),
                probabilities=tuple(self.policy.probabilities(batch)[0].tolist()),
                value=float(self.policy.values(batch)[0]),
                action=action,
                ending=ending,
                picture=picture,
            )
            if action is None:
                return
            with environment_output():
                chosen = int(self.policy.head.to_env(np.asarray(action)))
                observation, given, terminated, truncated, _ = self.env.step(chosen)
            index, reward, episode_return = index + 1, float(given), episode_return + float(given)
            limited = index == self.environment.max_episode_steps
            if terminated or truncated:
                ending = TERMINATED if terminated else "reached the time limit" if limited else "truncated"


def mean_value_error(rewards: Sequence[float], values: Sequence[float], terminated: bool, gamma: float) -> float:
    """How far the critic's values were from what followed, on average over the T steps of one episode.

    (1/T) sum_t [V(s_t) - G_t],   G_t = r_{t+1} + gamma G_{t+1},   G_T = 0 where terminated, else V(s_T)

    Positive: the critic is too optimistic. It learned the value of the sampling policy, while that was still changing,
    so a greedy episode may well be better than predicted. What follows a time limit is bootstrapped, as in training.

    Args:
        rewards: [T].
        values: [T + 1], V(s_0) ... V(s_T).
        gamma: discount per step, in [0, 1].
    """
    followed, total = 0.0 if terminated else values[-1], 0.0
    for reward, value in zip(reversed(rewards), reversed(values[:-1]), strict=True):
        followed = reward + gamma * followed
        total += value - followed
    return total / len(rewards)
