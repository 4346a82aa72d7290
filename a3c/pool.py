"""EnvPool's batches: simulators written in C++, all of a batch stepped by one call. Needs the package envpool.

They are for training alone: policies are evaluated, and so called solved, in Gymnasium's own environments.
"""

import dataclasses
import time
from typing import Any

import numpy as np

from a3c.config import ConfigError
from a3c.environments import EnvironmentSpec
from a3c.heads import head_for, indifferent
from a3c.lookup import refused
from a3c.native import NativeEnvironments
from a3c.serial import SEEDS
from a3c.spaces import from_json

TRIED = 20  # batches, of which the fastest step counts


class PooledVector:
    """A batch of EnvPool's as a vector environment of Gymnasium's, whose autoreset it has already.

    Each reset makes it anew: seeds are given then. Its simulators cannot be brought back to where they were, so it has
    no state, and a run that is resumed begins new episodes.
    """

    def __init__(self, environment: EnvironmentSpec, count: int):
        self.spec, self.num_envs = environment.spec, count
        self._pool: Any = None
        self.single_observation_space = from_json(environment.spaces["observation_space"])
        self.single_action_space = from_json(environment.spaces["action_space"])
        limit = environment.max_episode_steps
        self._options: dict[str, Any] = {} if limit is None else {"max_episode_steps": limit}

    def reset(self, *, seed: int | None = None) -> Any:
        import envpool  # type: ignore[import-not-found, unused-ignore]  # a second, where it is used

        if seed is None:
            seed = int(np.random.default_rng().integers(SEEDS))
        self.close()
        shape: dict[str, Any] = {"num_envs": self.num_envs, "num_threads": 1, "seed": seed % SEEDS, **self._options}
        self._pool = envpool.make(self.spec.id, env_type="gymnasium", **shape)
        return self._pool.reset()

    def step(self, actions: Any) -> Any:
        return self._pool.step(np.ascontiguousarray(actions, self._pool.action_space.dtype))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    @property
    def pool_action_space(self) -> Any:
        """EnvPool's own, once it is made."""
        return self._pool.action_space


def pooled(environment: EnvironmentSpec, count: int) -> EnvironmentSpec:
    """The environment with EnvPool's batches of so many, tried once; a ConfigError where it has none like it."""
    import envpool

    env_id, head = environment.env_id, environment.head
    if environment.spec.id not in envpool.list_all_envs() or environment.module is not None:
        raise ConfigError(f"vector: EnvPool has no '{env_id}'; leave --vector out")
    if environment.env_kwargs or environment.wrappers:
        raise ConfigError("vector: EnvPool takes neither --env-kwargs nor --wrappers; leave --vector out")
    with refused(env_id, "fails as an EnvPool batch"):
        vector: Any = PooledVector(environment, count)
        batch = NativeEnvironments(vector)
        observations, _ = batch.reset(seed=0)
        if head_for(vector.pool_action_space) != head:
            raise ValueError("its actions are not those of Gymnasium's environment")
        actions = head.mode(indifferent(head, environment.observation, observations))
        seconds = min(_timed(batch, actions) for _ in range(TRIED)) / count
        batch.close()
    return dataclasses.replace(environment, pooled=seconds)


def _timed(batch: NativeEnvironments, actions: Any) -> float:
    began = time.perf_counter()
    batch.step(actions)
    return time.perf_counter() - began
