"""Gymnasium's native vector environments as a batch: what they return is checked, their attributes are their state."""

import math
import warnings
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from a3c.heads import head_for
from a3c.serial import Step, array_from_json, blame, close_all, named
from a3c.spaces import BOOLEANS, NUMBERS, expect, is_array, observation_spec

Vector = gymnasium.vector.VectorEnv[Any, Any, Any]
CONSTANTS = (gymnasium.Space, EnvSpec)


class NativeEnvironments:
    """A vector environment of Gymnasium's own; its code runs in `context`, as that of `SerialEnvironments`."""

    def __init__(self, environments: Vector, context: Context | None = None):
        if not is_array(environments.single_observation_space):
            raise ValueError("is stepped as a batch only where its observations are plain arrays")
        self.observation = observation_spec(environments.single_observation_space)
        self.head = head_for(environments.single_action_space)
        self._environments, self._run = environments, (context or copy_context()).run
        self.num_envs = environments.num_envs
        self._batch, self._shape = (self.num_envs,), (self.num_envs, *self.observation.shape)

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[Any], dict[str, Any]]:
        with named(self._environments, "reset"):
            observations, info = self._run(self._environments.reset, seed=seed)
            expect("observations", observations, self._shape, NUMBERS)
        return observations, info

    def step(self, actions: NDArray[Any], /) -> Step:
        try:
            step = self._run(self._environments.step, self.head.to_env(actions))
            observations, rewards, terminated, truncated, _ = step
            expect("observations", observations, self._shape, NUMBERS)
            expect("rewards", rewards, self._batch, NUMBERS)
            expect("terminated", terminated, self._batch, BOOLEANS)
            expect("truncated", truncated, self._batch, BOOLEANS)
        except Exception as error:
            blame(error, self._environments, "step")
            raise
        return step

    def close(self) -> None:
        close_all([self._environments])

    def state(self) -> dict[str, Any]:
        """Its attributes; empty where one may hold anything: half the state would resume wrongly, unnoticed."""
        attributes = vars(self._environments).items()
        try:
            return {name: _copied(value) for name, value in attributes if not isinstance(value, CONSTANTS)}
        except TypeError:
            return {}

    def restore(
        self, state: dict[str, Any], observations: NDArray[Any], beat: Callable[[], None] = lambda: None
    ) -> bool:
        self.reset(seed=0)  # gives every attribute its type and shape
        is_written = {name for name, value in state.items() if isinstance(value, dict) and "data" in value}
        state = {name: array_from_json(value) if name in is_written else value for name, value in state.items()}
        attributes = vars(self._environments)
        if not state or _layout(state) != _layout(self.state()):
            return False
        for name, value in state.items():
            attribute = attributes[name]
            if isinstance(attribute, np.random.Generator):  # in place, like the arrays: others may hold it too
                attribute.bit_generator.state = value
            elif not isinstance(attribute, np.ndarray):
                attributes[name] = value
            elif attribute.tobytes() != value.tobytes():  # a constant may be read-only
                attribute[...] = value
        return True


def make_native(spec: EnvSpec, count: int, max_episode_steps: int | None) -> Vector:
    options: dict[str, Any] = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
    with warnings.catch_warnings(), np.errstate():
        return gymnasium.make_vec(spec, count, gymnasium.VectorizeMode.VECTOR_ENTRY_POINT, **options)


def _copied(value: Any) -> Any:
    """An attribute as JSON or an array; TypeError where it is of a kind that is not supported."""
    if isinstance(value, np.random.Generator) and isinstance(value.bit_generator, np.random.PCG64):
        return value.bit_generator.state
    if isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS:
        return value.copy()
    if type(value) in (type(None), bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    raise TypeError(type(value).__name__)


def _layout(state: dict[str, Any]) -> dict[str, Any]:
    """What must not change when attributes are set back: their names, and what kind of array or generator they are."""
    arrays = {name: (value.dtype, value.shape) for name, value in state.items() if isinstance(value, np.ndarray)}
    generators = {name: value.get("bit_generator") for name, value in state.items() if isinstance(value, dict)}
    return {**dict.fromkeys(state), **arrays, **generators}
