"""Environments whose every reward and end is known, and rollouts of them, for the tests beside this file."""

import base64
import dataclasses
import itertools
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from a3c.environments import EnvironmentSpec, describe
from a3c.heads import Categorical
from a3c.rollouts import Rollout
from a3c.spaces import ObservationSpec

_NUMBERS = itertools.count()


def register(
    entry_point: Any, max_episode_steps: int | None = None, vector_entry_point: Any = None, **kwargs: Any
) -> str:
    """Register an environment under an id of its own and return the id."""
    env_id = f"Scripted{next(_NUMBERS)}-v0"
    gymnasium.register(
        env_id, entry_point, max_episode_steps=max_episode_steps, vector_entry_point=vector_entry_point, kwargs=kwargs
    )
    return env_id


def scripted(entry_point: Any, max_episode_steps: int | None = None, **kwargs: Any) -> EnvironmentSpec:
    """Register an environment and describe it."""
    return describe(register(entry_point, max_episode_steps, **kwargs))


class Script(gymnasium.Env[Any, Any]):
    """Pays out one list of rewards per episode, in turn, and terminates at each list's end.

    Observes (episode, step), so that every observation tells where it comes from.
    """

    action_space = Discrete(2)
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self, rewards: list[list[float]]):
        self.rewards, self.episode, self.t = rewards, -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        rewards = self.rewards[self.episode % len(self.rewards)]
        self.t += 1
        return self._observe(), rewards[self.t - 1], self.t == len(rewards), False, {}

    def _observe(self) -> Any:
        return np.array([self.episode, self.t], np.float32)


class Walk(gymnasium.Env[Any, Any]):
    """Walks left (action 0) or right (1) from 0 and terminates at -3 or +3; rewards are sums of quarters."""

    action_space = Discrete(2)
    observation_space = Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self) -> None:
        self.position = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.position = 0
        return np.array([0.0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.position += 1 if action == 1 else -1
        reward = 0.25 * self.position + action
        return np.array([self.position], np.float32), reward, abs(self.position) == 3, False, {}


class Tampered(gymnasium.Env[Any, Any]):
    """Returns what a test tells it to: the constructor's observation, reward and ends."""

    action_space = Discrete(2)
    observation_space = Box(-np.inf, np.inf, (4,), np.float32)

    def __init__(
        self,
        observation: Any = (0.0, 0.0, 0.0, 0.0),
        reward: Any = 1.0,
        terminated: Any = False,
        truncated: Any = False,
    ):
        self.observation, self.first = observation, np.zeros(4)
        self.rest = reward, terminated, truncated, {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first, {}

    def step(self, action: Any) -> Any:
        return self.observation, *self.rest


class Endless(gymnasium.Env[Any, Any]):
    """Rewards 1 for ever: V = 1 / (1 - gamma)."""

    observation_space = Box(0, 1, (1,), np.float32)

    def __init__(self, actions: int = 2, action_start: int = 0):
        self.action_space = Discrete(actions, start=action_start)
        self.received: list[int] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.received.append(action)
        return np.ones(1, np.float32), 1.0, False, False, {}


class SeededLength(gymnasium.Env[Any, Any]):
    """Pays 2 a step for 1 + s % 5 steps where the seed s is below 1000, and 1000 once where it is not.

    Seeds that a test gives are small; those that `SerialEnvironments` draws for the episodes after them are not.
    """

    action_space = Discrete(2)
    observation_space = Box(0, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.given = seed is not None and seed < 1000
        self.left = 1 + seed % 5 if seed is not None and self.given else 1
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.ones(1, np.float32), 2.0 if self.given else 1000.0, self.left <= 0, False, {}


def _fields(rollout: Rollout) -> dict[str, Any]:
    return {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}


def copy(rollout: Rollout) -> Rollout:
    """A rollout that the collector's next one does not overwrite."""
    return deepcopy(rollout)


def random_rollout(rng: np.random.Generator, n_steps: int, count: int, ends: float = 0.2) -> Rollout:
    """Random rewards and ends, the step after each end invalid as next-step autoreset has it; observes 3 numbers."""
    rollout = Rollout.empty(n_steps, count, ObservationSpec((3,)), Categorical(2))
    rollout.observations[:] = rng.normal(size=rollout.observations.shape)
    rollout.actions[:] = rng.integers(2, size=rollout.actions.shape)
    ended = rng.random(count) < ends
    for t in range(n_steps):
        rollout.valid[t] = ~ended
        rollout.rewards[t] = rng.normal(size=count) * ~ended
        rollout.terminated[t] = (rng.random(count) < ends) & ~ended
        rollout.truncated[t] = (rng.random(count) < ends) & ~ended  # at times both at once
        ended = rollout.terminated[t] | rollout.truncated[t]
    return rollout


def array_to_json(values: np.ndarray) -> dict[str, Any]:
    """As checkpoints had arrays before they had them as tensors."""
    data = base64.b64encode(values.tobytes()).decode("ascii")
    return {"dtype": values.dtype.str, "shape": list(values.shape), "data": data}
