"""Scalar environments stepped one after the other as one batch, what they return checked, their episodes replayable."""

import base64
import functools
import math
import os
import sys
import traceback
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from a3c.heads import head_for
from a3c.spaces import BOOLEANS, MASK, NUMBERS, ObservationSpec, expect, observation_spec, write_mask, writer

# observations, rewards, terminated, truncated, info
Step = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
OURS, GYMNASIUM = (os.path.dirname(file) + os.sep for file in (__file__, gymnasium.__file__))
SEEDS = 2**31  # one more than the largest seed drawn
LARGEST_SET = 10_000  # actions
REPLAYABLE_STEPS = 100_000  # longer episodes are neither recorded to their end nor replayed: memory is bounded
RESET_RETURNS = "reset must return the two values (observation, info)"
STEP_RETURNS = "step must return the five values (observation, reward, terminated, truncated, info)"


class SerialEnvironments:
    """Scalar environments stepped one after the other; `gymnasium.vector.SyncVectorEnv` at a third of its cost.

    Every step's arrays are overwritten by the next step. Every episode starts from a seed of its own: environments
    cannot be serialised in general, but one that repeats itself is where its seed and its actions since have led it.
    Their code runs in `context`, so that what it has NumPy do about overflows holds for itself alone.
    """

    def __init__(
        self,
        environments: list[gymnasium.Env[Any, Any]],
        beat: Callable[[], None] = lambda: None,
        context: Context | None = None,
        observation: ObservationSpec | None = None,
    ):
        space = environments[0].observation_space
        self.head = head_for(environments[0].action_space)
        self.observation = observation or observation_spec(space, self.head.outputs)
        self._write = writer(space, self.observation)
        self._environments, self._beat = environments, beat
        for environment in environments:
            check_actions_fast(environment)
        self._run = (context or copy_context()).run
        self._steps = [environment.step for environment in environments]
        self.num_envs = count = len(environments)
        self._shape, dtype = self.observation.shape, np.dtype(self.observation.dtype)
        # An observation of this dtype and shape is taken as it is; None: all are written by `_write`.
        self._as_it_is = space.dtype if isinstance(space, gymnasium.spaces.Box) and space.shape == self._shape else None
        self._observations, self._rewards = np.zeros((count, *self._shape), dtype), np.zeros(count, np.float32)
        self._masks = self._observations[:, -self.observation.mask :] if self.observation.mask else None
        self._ends_of_groups = np.cumsum((0, *self.head.groups))[:-1]
        self._terminated, self._truncated = np.zeros((2, count), np.bool_)
        self._ended = [False] * count
        self._seeds = [0] * count  # of the episodes under way
        self._actions = [array(np.dtype(self.head.action_dtype).char) for _ in range(count)]  # and theirs so far
        self._scalar = self.head.action_shape == ()
        self._record: Callable[..., None] = array.append if self._scalar else array.extend
        self._longest = REPLAYABLE_STEPS * math.prod(self.head.action_shape)  # recorded, and one action more

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset all; environment i is seeded with `seed + i`, and later episodes with what follows from `seed`."""
        if seed is None:
            seed = int(np.random.default_rng().integers(SEEDS))
        self._rng = np.random.default_rng([seed, 1])  # not the numbers that environment 0 draws from `seed`
        for index in range(self.num_envs):
            with named(self._environments[index], "reset"):
                self._begin(index, seed + index)
        return self._observations, {}

    def step(self, actions: NDArray[Any], /) -> Step:
        recorded = actions.tolist() if self._scalar else actions.reshape(len(actions), -1).tolist()
        given, index = self.head.to_env(actions), 0
        try:
            for index, action in enumerate(recorded if given is actions and self._scalar else self._listed(given)):
                if self._ended[index]:
                    self._begin(index, int(self._rng.integers(SEEDS)))
                else:
                    self._act(index, action, recorded[index])
        except Exception as error:
            blame(error, self._environments[index], "reset" if self._ended[index] else "step")
            raise
        return self._observations, self._rewards, self._terminated, self._truncated, {}

    def _listed(self, given: NDArray[Any]) -> Iterable[Any]:
        """Actions one by one, as an environment takes them: a number as Python's."""
        return given.tolist() if self._scalar else given

    def _begin(self, index: int, seed: int) -> None:
        self.begun(index, self._run(self._environments[index].reset, seed=seed), seed)

    def begun(self, index: int, returned: Any, seed: int) -> NDArray[Any]:
        """Take what an environment's reset has returned; all observations [B, *shape]."""
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise ValueError(RESET_RETURNS)
        observation, info = returned
        self._observe(index, observation, info)
        self._rewards[index] = 0.0
        self._terminated[index] = self._truncated[index] = self._ended[index] = False
        self._seeds[index] = seed
        del self._actions[index][:]
        self._beat()
        return self._observations

    def _act(self, index: int, action: Any, recorded: Any) -> None:
        returned = self._run(self._steps[index], action)
        try:
            observation, reward, terminated, truncated, info = returned
        except (TypeError, ValueError):
            raise ValueError(STEP_RETURNS) from None
        # What nearly all environments return is let through here: the full check costs several times as much.
        if getattr(observation, "dtype", self) is self._as_it_is and observation.shape == self._shape:
            self._observations[index] = observation
        else:
            self._observe(index, observation, info)
        if not isinstance(reward, float):
            expect("reward", reward, (), NUMBERS)
        if not (isinstance(terminated, bool) and isinstance(truncated, bool)):
            expect("terminated", terminated, (), BOOLEANS)
            expect("truncated", truncated, (), BOOLEANS)
        self._rewards[index] = reward
        if terminated or truncated:  # all three are False since the episode began
            self._terminated[index], self._truncated[index], self._ended[index] = terminated, truncated, True
        actions = self._actions[index]
        if len(actions) <= self._longest:
            self._record(actions, recorded)

    def _observe(self, index: int, observation: Any, info: Any) -> None:
        """Check an observation, and write it down with its mask."""
        spec = self.observation
        if not spec.info_mask:
            self._write(observation, self._observations[index])
        else:
            self._write(observation, self._observations[index, : -spec.mask])
            write_mask(info.get(MASK) if isinstance(info, dict) else None, self._observations[index, -spec.mask :])
        if self._masks is not None and not np.maximum.reduceat(self._masks[index], self._ends_of_groups).all():
            raise ValueError(f"{MASK} allows no action")

    def close(self) -> None:
        close_all(self._environments)

    def state(self) -> dict[str, Any]:
        return {
            "generator": self._rng.bit_generator.state,
            "seeds": list(self._seeds),
            "actions": [np.array(actions).reshape(-1, *self.head.action_shape) for actions in self._actions],
            "ended": list(self._ended),
        }

    def restore(
        self, state: dict[str, Any], observations: NDArray[Any], beat: Callable[[], None] = lambda: None
    ) -> bool:
        if len(state.get("seeds", ())) != self.num_envs:
            return False
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = state["generator"]
        for index, (seed, written) in enumerate(zip(state["seeds"], state["actions"], strict=True)):
            actions = array_from_json(written).astype(self.head.action_dtype)
            if len(actions) > REPLAYABLE_STEPS:
                return False
            self._begin(index, seed)
            records = actions.tolist() if self._scalar else actions.reshape(len(actions), -1).tolist()
            for action, recorded in zip(self._listed(self.head.to_env(actions)), records, strict=True):
                if self._ended[index]:
                    return False
                self._act(index, action, recorded)
                beat()
        return self._ended == state["ended"] and self._observations.tobytes() == observations.tobytes()


def check_actions_fast(environment: gymnasium.Env[Any, Any]) -> None:
    """Have Discrete spaces look up in a set whether an action is theirs: many environments ask that at every step.

    The answer is the same for every int; of anything else the space itself is asked. It saves 2 us of CartPole's 8.
    """
    for space in (environment.action_space, environment.unwrapped.action_space):
        if type(space) is gymnasium.spaces.Discrete and space.n <= LARGEST_SET and "contains" not in vars(space):
            known = frozenset(range(int(space.start), int(space.start + space.n)))
            vars(space)["contains"] = functools.partial(_contains, known, space.contains)


def _contains(known: frozenset[int], ask: Callable[[Any], bool], action: Any) -> bool:
    return action in known if type(action) is int else ask(action)


def close_all(environments: Iterable[Any]) -> None:
    """Close environments; print one line where some raise: what they were made for is done by then."""
    errors = []
    for environment in environments:
        try:
            environment.close()
        except (Exception, SystemExit) as error:
            errors.append(error)
    if errors:  # not a traceback: a log's last traceback is taken for what its process has died of
        print(f"close() of {len(errors)} environments failed: {brief(errors[0])}", file=sys.stderr, flush=True)


@contextmanager
def named(environment: Any, call: str) -> Iterator[None]:
    """Have an error of an environment name it, the call, and the line of its own code."""
    try:
        yield
    except Exception as error:
        blame(error, environment, call)
        raise


def blame(error: Exception, environment: Any, call: str) -> None:
    """Note of an error which call of which environment it is of, and the line of its code, where that has raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(OURS)]
    theirs = [frame for frame in frames if not frame.filename.startswith(GYMNASIUM)] or frames
    place = f", {theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else ""
    error.add_note(
        f"in {call} of {getattr(environment.spec, 'id', None) or type(environment.unwrapped).__name__}{place}"
    )


def brief(error: BaseException) -> str:
    """An exception in one line of bounded length, with what was noted of it."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # of a third party, as its __str__ is
        message = ""
    name = type(error).__name__
    said = name if not message else message if type(error) is ValueError else f"{name}: {message}"
    return ", ".join([said[:500], *getattr(error, "__notes__", ())])


def array_from_json(written: Any) -> NDArray[Any]:
    """An array that a state holds, as it is or in base64 as older checkpoints have it; read-only."""
    if isinstance(written, np.ndarray):
        return written
    return np.frombuffer(base64.b64decode(written["data"]), written["dtype"]).reshape(written["shape"])
