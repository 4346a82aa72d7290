"""One episode of a trained policy, step by step, and how well its critic predicted it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from a3c.actors import Policy
from a3c.critic_evaluation import quality
from a3c.environments import EnvironmentSpec
from a3c.heads import Part
from a3c.serial import SerialEnvironments
from a3c.spaces import is_array, names_of
from workers.playing.pictures import Picture, enlarged, seen
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
    observation: tuple[float, ...]  # [O], without a mask and images
    extent: tuple[float, ...]  # [O], the largest size of each component, declared or seen so far
    parts: tuple[Part, ...]  # of pi(a|s), and what is done now; at the end nothing is
    value: float  # V(s)
    names: tuple[str, ...] = ()  # [O], where the observation is no array; then only what is not 0 is shown
    ending: str = ""  # how the episode ended; "" while it goes on
    picture: str = ""  # the environment's own, as text; "" where it draws none
    pixels: Picture | None = None  # the environment's own, or the images that the policy sees


@dataclass(frozen=True, slots=True)
class Player:
    """A policy in an environment, and the discount with which its critic learned, where that is known."""

    env: gymnasium.Env[Any, Any]
    environment: EnvironmentSpec
    policy: Policy
    greedy: bool
    rng: np.random.Generator
    gamma: float | None
    shows_observation: bool = False

    def play(self, title: str, seed: int, show: Callable[[Step], None]) -> str:
        """Play an episode and show every step, the first and the last state included; return a line about it."""
        rewards, values = list[float](), list[float]()
        for step in self._steps(title, seed):
            show(step)
            rewards.append(step.reward)
            values.append(step.value)
        critic = "mean value error unknown"
        if self.gamma is not None:
            followed = returns_of(rewards[1:], values[-1], step.ending == TERMINATED, self.gamma)
            found = quality(np.array(values[:-1]), followed)
            critic = f"mean value error {found.bias:+.2f}, explained variance {found.explained_variance:.2f}"
        return f"return {step.episode_return:g}, {step.index} steps, {step.ending}, {critic}"

    def _pixels(self, observation: NDArray[Any]) -> Picture | None:
        if self.shows_observation:
            return enlarged(seen(self.policy.observation, observation))
        return self.env.render() if self.env.render_mode == "rgb_array" else None  # type: ignore[return-value]

    def _steps(self, title: str, seed: int) -> Iterator[Step]:
        head, spec, space = self.policy.head, self.policy.observation, self.env.observation_space
        environments = SerialEnvironments([self.env], observation=spec)
        extent, names = np.zeros(spec.numbers), tuple[str, ...]()
        if not is_array(space) or spec.mask:
            names = tuple(names_of(space, spec)[: spec.numbers])
        elif not spec.images:
            bounds = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float64).reshape(-1)  # type: ignore[attr-defined]
            extent = np.where(bounds < 1e6, bounds, 0.0)  # some declare the largest float there is
        with environment_output():
            batch, _ = environments.reset(seed=seed)  # [1, *shape]
        self.policy.restart(1)
        index, reward, episode_return, ending = 0, 0.0, 0.0, ""
        while True:
            with environment_output():
                picture = str(self.env.render()) if self.env.render_mode == "ansi" else ""
                pixels = self._pixels(batch[0])
            observation = batch.reshape(-1)[: spec.numbers]
            extent = np.fmax(extent, np.abs(observation))
            parameters, values = self.policy.both(batch)
            actions = None if ending else self.policy.chosen(parameters, greedy=self.greedy, rng=self.rng)
            yield Step(
                env_id=self.environment.spec.id,
                title=title,
                index=index,
                reward=reward,
                episode_return=episode_return,
                observation=tuple(observation.tolist()),
                extent=tuple(extent.tolist()),
                parts=tuple(head.describe(parameters[0], None if actions is None else actions[0])),
                value=float(values[0]),
                names=names,
                ending=ending,
                picture=picture,
                pixels=pixels,
            )
            if actions is None:
                return
            with environment_output():
                batch, rewards, terminated, truncated, _ = environments.step(actions)
            index, reward, episode_return = index + 1, float(rewards[0]), episode_return + float(rewards[0])
            limited = index == self.environment.max_episode_steps
            if terminated[0] or truncated[0]:
                ending = TERMINATED if terminated[0] else "reached the time limit" if limited else "truncated"


def returns_of(rewards: Sequence[float], last: float, terminated: bool, gamma: float) -> NDArray[np.float64]:
    """What followed each of the T steps of one episode, [T].

    G_t = r_{t+1} + gamma G_{t+1},   G_T = 0 where terminated, else V(s_T)

    A critic that is too optimistic of it learned the value of the sampling policy, while that was still changing, so a
    greedy episode may well be better than predicted. What follows a time limit is bootstrapped, as in training.

    Args:
        rewards: [T].
        last: V(s_T).
        gamma: discount per step, in [0, 1].
    """
    followed, returns = 0.0 if terminated else last, np.zeros(len(rewards))
    for t in range(len(rewards) - 1, -1, -1):
        followed = rewards[t] + gamma * followed
        returns[t] = followed
    return returns
