"""Environments for whole commands, found by `--env tests.process.odd:NAME-v0`."""

import ctypes
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

MODULE = "tests.process.odd"


class Base(gymnasium.Env[Any, Any]):
    """Pays 1 for the last of its actions, over 20 steps."""

    observation_space = Box(-1, 1, (3,), np.float32)
    action_space = Discrete(3, start=1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        assert action in (1, 2, 3), f"{action!r} is none of the actions"
        return self._observe(), float(action == 3), False, False, {}

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class StartOne(Base):
    pass


class Talks(Base):
    """Writes to standard output in Python and in C, in every call."""

    def __init__(self) -> None:
        self.say("made")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.say("reset")
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.say("step")
        return super().step(action)

    def close(self) -> None:
        self.say("closed")

    def say(self, what: str) -> None:
        print(f"python: {what}")
        ctypes.CDLL(None).puts(f"c: {what}".encode())


class PaysNothingKnown(Base):
    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float("nan"), *rest


class OldStep(Base):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


for _kind in (StartOne, Talks, PaysNothingKnown, OldStep):
    gymnasium.register(f"{_kind.__name__}-v0", f"{MODULE}:{_kind.__name__}", max_episode_steps=20)
