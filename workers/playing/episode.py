"""One episode of a trained policy, moment by moment, and how well its critic foresaw it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from a3c.environments import EnvironmentSpec
from a3c.policy import Policy
from a3c.returns import lambda_returns
from workers.processes.preflight import environment_output

TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Moment:
    """A state of an episode: what the policy sees, and what it makes of it."""

    env_id: str
    title: str  # which episode it is
    step: int  # steps taken so far
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
class Episode:
    """How one episode went."""

    episode_return: float
    length: int
    ending: str
    value_error: float | None  # None where the discount that the critic learned with is not known

    def __str__(self) -> str:
        error = "unknown" if self.value_error is None else f"{self.value_error:+.2f}"
        return f"return {self.episode_return:g}, {self.length} steps, {self.ending}, mean value error {error}"


@dataclass(frozen=True, slots=True)
class Player:
    """A policy in an environment, and the discount that its critic learned with, where that is known."""

    one: gymnasium.Env[Any, Any]
    environment: EnvironmentSpec
    policy: Policy
    greedy: bool
    rng: np.random.Generator
    gamma: float | None

    def play(self, title: str, seed: int, show: Callable[[Moment], None]) -> Episode:
        """Play an episode; every state of it is shown, the first and the last included."""
        rewards, values = list[float](), list[float]()
        for moment in self._moments(title, seed):
            show(moment)
            rewards.append(moment.reward)
            values.append(moment.value)
        error = None
        if self.gamma is not None:
            followed = np.array(rewards[1:], np.float32), np.array(values, np.float32)
            error = mean_value_error(*followed, moment.ending == TERMINATED, self.gamma)
        return Episode(moment.episode_return, moment.step, moment.ending, error)

    def _moments(self, title: str, seed: int) -> Iterator[Moment]:
        with environment_output():
            observation, _ = self.one.reset(seed=seed)
        extent = _declared(self.one.observation_space)
        step, reward, episode_return, ending = 0, 0.0, 0.0, ""
        while True:
            batch = np.asarray(observation)[None]  # [1, O]
            with environment_output():
                picture = str(self.one.render()) if self.one.render_mode == "ansi" else ""
            extent = np.fmax(extent, np.abs(batch[0]))
            action = None if ending else int(self.policy.indices(batch, greedy=self.greedy, rng=self.rng)[0])
            yield Moment(
                env_id=self.environment.spec.id,
                title=title,
                step=step,
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
                observation, given, terminated, truncated, _ = self.one.step(action + self.policy.action_start)
            step, reward, episode_return = step + 1, float(given), episode_return + float(given)
            ending = self._ending(step, terminated, truncated)

    def _ending(self, step: int, terminated: bool, truncated: bool) -> str:
        if terminated:
            return TERMINATED
        limit = "reached the time limit" if step == self.environment.max_episode_steps else "truncated"
        return limit if truncated else ""


def mean_value_error(
    rewards: NDArray[np.float32], values: NDArray[np.float32], terminated: bool, gamma: float
) -> float:
    """How far the critic's values were from what really followed, on average over the steps of one episode.

    (1/T) sum_t [V(s_t) - G_t],   G_t = r_{t+1} + gamma G_{t+1},   G_T = 0 where terminated, else V(s_T)

    Positive: the critic is too hopeful. It learned the value of the policy that samples its actions, while it was
    still changing, so that a greedy episode may well be better than foreseen. What follows a time limit nobody has
    seen; the critic's own word for it counts, as in training.

    Args:
        rewards: [T].
        values: [T + 1], V(s_0) ... V(s_T).
        gamma: discount per step, in [0, 1].
    """
    discounts = np.full_like(rewards, gamma)
    discounts[-1] *= not terminated
    returns = lambda_returns(rewards[:, None], discounts[:, None], np.ones_like(rewards)[:, None], values[:, None])
    return float((values[:-1] - returns[:, 0]).mean())


def _declared(space: Any) -> NDArray[np.float64]:
    """The largest size of each component, [O], where its bounds are finite; else 0."""
    size = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64)
    return np.where(np.isfinite(size) & (size < 1e6), size, 0.0)  # some declare the largest float there is
