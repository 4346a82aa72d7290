"""EnvPool's batches: simulators written in C++, all of a batch stepped by one call. Needs the package envpool.

They are for training alone: policies are evaluated, and so called solved, in Gymnasium's own environments.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a3c.config import ConfigError
from a3c.environments import EnvironmentSpec
from a3c.heads import head_for, indifferent
from a3c.lookup import refused
from a3c.serial import SEEDS, Step
from a3c.spaces import BOOLEANS, NUMBERS, expect

TRIED = 20  # batches, of which the fastest step counts
LARGEST_SEED = 2**31


class PooledEnvironments:
    """A batch of EnvPool's, which resets its environments as ours do. Each reset makes it anew: seeds are given then.

    Its simulators cannot be brought back to where they were: a run that is resumed begins new episodes.
    """

    def __init__(self, environment: EnvironmentSpec, count: int):
        self.observation, self.head, self.num_envs = environment.observation, environment.head, count
        limit = environment.max_episode_steps
        self._options: dict[str, Any] = {} if limit is None else {"max_episode_steps": limit}
        self._id = environment.spec.id
        self._pool: Any = None
        self._batch, self._shape = (count,), (count, *self.observation.shape)

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[Any], dict[str, Any]]:
        if seed is None:
            seed = int(np.random.default_rng().integers(SEEDS))
        self.close()
        self._pool = make_pool(self._id, self.num_envs, seed=seed % LARGEST_SEED, **self._options)
        self._dtype = np.dtype(self._pool.action_space.dtype)
        observations, info = self._pool.reset()
        expect("observations", observations, self._shape, NUMBERS)
        return observations, info

    def step(self, actions: NDArray[Any], /) -> Step:
        given = np.ascontiguousarray(self.head.to_env(actions), self._dtype)
        observations, rewards, terminated, truncated, _ = self._pool.step(given)
        expect("observations", observations, self._shape, NUMBERS)
        expect("rewards", rewards, self._batch, NUMBERS)
        expect("terminated", terminated, self._batch, BOOLEANS)
        return observations, rewards, terminated, truncated & ~terminated, {}

    @property
    def action_space(self) -> Any:
        """EnvPool's own, once it is made."""
        return self._pool.action_space

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def state(self) -> dict[str, Any]:
        return {}

    def restore(
        self, state: dict[str, Any], observations: NDArray[Any], beat: Callable[[], None] = lambda: None
    ) -> bool:
        return False


def make_pool(env_id: str, count: int, **options: Any) -> Any:
    import envpool  # type: ignore[import-not-found, unused-ignore]  # a second, where it is used

    return envpool.make(env_id, env_type="gymnasium", num_envs=count, num_threads=1, **options)


def pooled(environment: EnvironmentSpec, count: int) -> EnvironmentSpec:
    """The environment with EnvPool's batches of so many, tried once; a ConfigError where it has none like it."""
    import envpool

    env_id = environment.env_id
    if environment.spec.id not in envpool.list_all_envs() or environment.module is not None:
        raise ConfigError(f"vector: EnvPool has no '{env_id}'; leave --vector out")
    if environment.env_kwargs or environment.wrappers:
        raise ConfigError("vector: EnvPool takes neither --env-kwargs nor --wrappers; leave --vector out")
    batch = PooledEnvironments(environment, count)
    with refused(env_id, "fails as an EnvPool batch"):
        observations, _ = batch.reset(seed=0)
        if head_for(batch.action_space) != environment.head:
            raise ValueError("its actions are not those of Gymnasium's environment")
        actions = environment.head.mode(indifferent(environment.head, environment.observation, observations))
        seconds = min(_timed(batch, actions) for _ in range(TRIED)) / count
        batch.close()
    return dataclasses.replace(environment, pooled=seconds)


def _timed(batch: PooledEnvironments, actions: NDArray[Any]) -> float:
    began = time.perf_counter()
    batch.step(actions)
    return time.perf_counter() - began
