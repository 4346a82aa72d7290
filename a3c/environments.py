"""Gymnasium environments as the collector and the evaluation need them: batched, with next-step autoreset."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from a3c.config import ConfigError, did_you_mean

Step = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class Environments(Protocol):
    """A batch of B environments; the part of `gymnasium.vector.VectorEnv` used here.

    An environment that ended is reset by the next step, which ignores its action and rewards 0 (next-step autoreset).
    """

    num_envs: int

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]: ...
    def step(self, actions: NDArray[np.int64], /) -> Step: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What a run has to know of its environment, and how to make it in any process."""

    spec: EnvSpec  # carries the entry point, so that a process that never registered the id can make it too
    observation_size: int
    action_count: int
    reward_threshold: float | None
    max_episode_steps: int | None

    @property
    def env_id(self) -> str:
        return self.spec.id

    def target(self, wanted: float | None) -> float | None:
        """The return that counts as solved: the user's where one is given, else the environment's own."""
        return self.reward_threshold if wanted is None else wanted

    def facts(self) -> dict[str, Any]:
        """What can be written down of it."""
        return {
            "env_id": self.env_id,
            "observation_size": self.observation_size,
            "action_count": self.action_count,
            "reward_threshold": self.reward_threshold,
            "max_episode_steps": self.max_episode_steps,
        }

    def make(self, count: int) -> Environments:
        """`count` environments: Gymnasium's native vector version where there is one, else one after the other.

        A single environment is always the scalar one: a native batch of one costs six times its step.
        """
        if count > 1 and self.spec.vector_entry_point is not None:
            mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
            limit = self.max_episode_steps
            options: dict[str, Any] = {} if limit is None else {"max_episode_steps": limit}
            native = gymnasium.make_vec(self.spec, count, mode, **options)
            next_step = native.metadata.get("autoreset_mode") is AutoresetMode.NEXT_STEP
            if next_step and native.single_action_space.start == 0:  # type: ignore[attr-defined]
                return native
            native.close()
        return SerialEnvironments([self.make_one() for _ in range(count)])

    def make_one(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """One scalar environment, its time limit included."""
        rendering: dict[str, Any] = (
            {} if render_mode is None else {"render_mode": render_mode}
        )  # not all know the option
        return gymnasium.make(self.spec, max_episode_steps=self.max_episode_steps, **rendering)


class SlowEnvironments:
    """Environments that take their time, asleep, as simulators and robots elsewhere do.

    Args:
        latency_ms: milliseconds that each environment adds to every step; those of one worker step one after the other.
    """

    def __init__(self, environments: Environments, latency_ms: float):
        self._environments, self.num_envs = environments, environments.num_envs
        self._seconds = latency_ms / 1000 * environments.num_envs

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        return self._environments.reset(seed=seed)

    def step(self, actions: NDArray[np.int64], /) -> Step:
        time.sleep(self._seconds)
        return self._environments.step(actions)

    def close(self) -> None:
        self._environments.close()


class SerialEnvironments:
    """Scalar environments stepped one after the other; `gymnasium.vector.SyncVectorEnv` at a third of its cost.

    Every step's arrays are overwritten by the next step.
    """

    def __init__(self, environments: list[gymnasium.Env[Any, Any]]):
        self._environments = environments
        self.num_envs = len(environments)
        self._action_start = int(environments[0].action_space.start)  # type: ignore[attr-defined]
        shape = environments[0].observation_space.shape
        self._observations = np.zeros((self.num_envs, *(shape or ())), np.float32)
        self._rewards = np.zeros(self.num_envs, np.float32)
        self._terminated = np.zeros(self.num_envs, np.bool_)
        self._truncated = np.zeros(self.num_envs, np.bool_)

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reset all; environment i is seeded with `seed + i`."""
        for index, environment in enumerate(self._environments):
            self._observations[index], _ = environment.reset(seed=None if seed is None else seed + index)
        self._terminated[:] = self._truncated[:] = False
        return self._observations, {}

    def step(self, actions: NDArray[np.int64], /) -> Step:
        for index, environment in enumerate(self._environments):
            if self._terminated[index] or self._truncated[index]:
                self._observations[index], _ = environment.reset()
                self._rewards[index] = 0.0
                self._terminated[index] = self._truncated[index] = False
            else:
                observation, reward, terminated, truncated, _ = environment.step(
                    int(actions[index]) + self._action_start
                )
                self._observations[index] = observation
                self._rewards[index] = reward
                self._terminated[index] = terminated
                self._truncated[index] = truncated
        return self._observations, self._rewards, self._terminated, self._truncated, {}

    def close(self) -> None:
        for environment in self._environments:
            environment.close()


def describe(env_id: str, max_episode_steps: int | None = None) -> EnvironmentSpec:
    """Look an environment up, make it once and check that its spaces are supported.

    Raises:
        ConfigError: unknown id, an environment that cannot be made, or spaces that are not supported yet.
    """
    spec = _find(env_id)
    environment = _attempt(env_id, lambda: gymnasium.make(spec, max_episode_steps=max_episode_steps))
    try:
        observation_size = _observation_size(env_id, environment.observation_space)
        action_count = _action_count(env_id, environment.action_space)
    finally:
        environment.close()
    limit = spec.max_episode_steps if max_episode_steps is None else max_episode_steps
    return EnvironmentSpec(spec, observation_size, action_count, spec.reward_threshold, limit)


def _find(env_id: str) -> EnvSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns that a newer version exists; the user chose this one
        try:
            if ":" in env_id:  # "module:Env-v0" imports the module that registers the id
                _attempt(env_id, lambda: __import__(env_id.split(":", 1)[0]))
            return gymnasium.spec(env_id.split(":", 1)[-1])
        except gymnasium.error.Error as error:
            hint = did_you_mean(env_id.split(":", 1)[-1], gymnasium.registry) or f"; {error}"
            raise ConfigError(f"env: unknown environment '{env_id}'{hint}") from None


def _attempt(env_id: str, make: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except Exception as error:  # whatever a third-party environment's constructor raises is the user's to read
        message = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"env: '{env_id}' cannot be made: {message}") from error


def _observation_size(env_id: str, space: Any) -> int:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ConfigError(
            f"env: '{env_id}' observes {_brief(space)}; supported is a Box with one dimension (a vector of numbers)"
        )
    return int(space.shape[0])


def _action_count(env_id: str, space: Any) -> int:
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ConfigError(f"env: '{env_id}' acts in {_brief(space)}; supported is Discrete (one of n actions)")
    return int(space.n)


def _brief(space: Any) -> str:
    return f"{type(space).__name__}{space.shape or ''}"
