"""Batches of environments as the collector and the evaluation step them: checked, slowed, and told as plain JSON."""

import base64
import math
import sys
import time
from array import array
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from a3c.heads import Head, head_for
from a3c.spaces import ObservationSpec, observation_spec

Step = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
SEEDS = 2**31  # one more than the largest seed drawn
REPLAYABLE_STEPS = 100_000  # longer episodes are neither recorded to their end nor replayed: memory is bounded
_FLOAT32 = np.dtype(np.float32)
NAP_SECONDS = 0.5  # asleep without a sign of life
RESET_RETURNS = "reset must return the two values (observation, info)"
STEP_RETURNS = "step must return the five values (observation, reward, terminated, truncated, info)"
_NUMBERS, _BOOLEANS = "biuf", "biu"  # kinds of NumPy dtypes: 0 and 1 may stand for False and True


class Environments(Protocol):
    """A batch of B environments; the part of `gymnasium.vector.VectorEnv` used here.

    An environment that ended is reset by the next step, which ignores its action and rewards 0 (next-step autoreset).
    """

    num_envs: int
    observation: ObservationSpec
    head: Head

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]: ...
    def step(self, actions: NDArray[np.int64], /) -> Step: ...

    def close(self) -> None:
        """Close them all; one that cannot be closed is reported on standard error and ends nothing."""

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on, as plain JSON."""

    def restore(self, state: dict[str, Any], observations: NDArray[np.float32], beat: Callable[[], None] = ...) -> bool:
        """Go back to where `state` was taken, in this process or another; False: cannot be done, reset before going on.

        Args:
            observations: [B, O], the last ones when it was taken; they must come out again bit for bit.
            beat: called after every step that is replayed.
        """


class SlowEnvironments:
    """Environments that take their time, asleep, as simulators and robots elsewhere do.

    Args:
        latency_ms: milliseconds that each environment adds to every step; those of one worker step one after the other.
        beat: called now and then while they are asleep, as a sign of life.
    """

    def __init__(self, environments: Environments, latency_ms: float, beat: Callable[[], None] = lambda: None):
        self._environments, self.num_envs, self._beat = environments, environments.num_envs, beat
        self.observation, self.head = environments.observation, environments.head
        self._seconds = latency_ms / 1000 * environments.num_envs

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        return self._environments.reset(seed=seed)

    def step(self, actions: NDArray[np.int64], /) -> Step:
        left = self._seconds
        while left > NAP_SECONDS:
            time.sleep(NAP_SECONDS)
            left -= NAP_SECONDS
            self._beat()
        time.sleep(left)
        return self._environments.step(actions)

    def close(self) -> None:
        self._environments.close()

    def state(self) -> dict[str, Any]:
        return self._environments.state()

    def restore(
        self, state: dict[str, Any], observations: NDArray[np.float32], beat: Callable[[], None] = lambda: None
    ) -> bool:
        return self._environments.restore(state, observations, beat)


class NativeEnvironments:
    """A vector environment of Gymnasium's own: what it returns is checked, its attributes are its state.

    Args:
        context: in which its code runs, so that what it has NumPy do about overflows holds for itself alone.
    """

    def __init__(self, environments: gymnasium.vector.VectorEnv[Any, Any, Any], context: Context | None = None):
        self._run = (context or copy_context()).run
        self._environments, self.num_envs = environments, environments.num_envs
        self.observation = observation_spec(environments.single_observation_space)
        self.head = head_for(environments.single_action_space)
        self._batch = (self.num_envs,)
        self._shape = (self.num_envs, *(environments.single_observation_space.shape or ()))

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        observations, info = self._run(self._environments.reset, seed=seed)
        _expect("observations", observations, self._shape, _NUMBERS)
        return observations, info

    def step(self, actions: NDArray[np.int64], /) -> Step:
        step = observations, rewards, terminated, truncated, _ = self._run(self._environments.step, actions)
        _expect("observations", observations, self._shape, _NUMBERS)
        _expect("rewards", rewards, self._batch, _NUMBERS)
        _expect("terminated", terminated, self._batch, _BOOLEANS)
        _expect("truncated", truncated, self._batch, _BOOLEANS)
        return step

    def close(self) -> None:
        close_all([self._environments])

    def state(self) -> dict[str, Any]:
        """Its attributes; empty where one may hold anything: going on with half the state would be wrong unnoticed."""
        constants = (gymnasium.Space, EnvSpec)
        attributes = vars(self._environments).items()
        try:
            return {name: _to_json(value) for name, value in attributes if not isinstance(value, constants)}
        except TypeError:
            return {}

    def restore(
        self, state: dict[str, Any], observations: NDArray[np.float32], beat: Callable[[], None] = lambda: None
    ) -> bool:
        self.reset(seed=0)  # gives every attribute its type and shape
        fresh, attributes = self.state(), vars(self._environments)
        if not state or _layout(state) != _layout(fresh):
            return False
        for name in (name for name in state if state[name] != fresh[name]):
            value = attributes[name]
            if isinstance(value, np.random.Generator):  # in place, like the arrays: others may hold it too
                value.bit_generator.state = state[name]
            elif isinstance(value, np.ndarray):
                value[...] = array_from_json(state[name])
            else:
                attributes[name] = state[name]
        return True


class SerialEnvironments:
    """Scalar environments stepped one after the other; `gymnasium.vector.SyncVectorEnv` at a third of its cost.

    Every step's arrays are overwritten by the next step. Every episode starts from a seed of its own: environments
    cannot be serialised in general, but one that repeats itself is where its seed and its actions since have led it.

    Args:
        beat: called after the reset of each single environment, as a sign of life.
        context: in which their code runs, so that what it has NumPy do about overflows holds for itself alone.
    """

    def __init__(
        self,
        environments: list[gymnasium.Env[Any, Any]],
        beat: Callable[[], None] = lambda: None,
        context: Context | None = None,
    ):
        self._environments, self._beat = environments, beat
        self._run = (context or copy_context()).run
        self.num_envs = count = len(environments)
        space: Any = environments[0].action_space
        self.observation, self.head = observation_spec(environments[0].observation_space), head_for(space)
        self._action_start = int(space.start)
        self._shape = environments[0].observation_space.shape or ()
        self._observations = np.zeros((count, *self._shape), np.float32)
        self._rewards = np.zeros(count, np.float32)
        self._terminated = np.zeros(count, np.bool_)
        self._truncated = np.zeros(count, np.bool_)
        self._ended = [False] * count
        self._seeds = [0] * count  # of the episodes under way
        self._actions = [array(np.min_scalar_type(int(space.n) - 1).char) for _ in range(count)]  # and theirs so far

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Reset all; environment i is seeded with `seed + i`, and later episodes with what follows from `seed`."""
        if seed is None:
            seed = int(np.random.default_rng().integers(SEEDS))
        self._rng = np.random.default_rng([seed, 1])  # not the numbers that environment 0 draws from `seed`
        for index in range(self.num_envs):
            self._begin(index, seed + index)
        return self._observations, {}

    def step(self, actions: NDArray[np.int64], /) -> Step:
        for index, action in enumerate(actions.tolist()):
            if self._ended[index]:
                self._begin(index, int(self._rng.integers(SEEDS)))
            else:
                self._act(index, action)
        return self._observations, self._rewards, self._terminated, self._truncated, {}

    def close(self) -> None:
        close_all(self._environments)

    def state(self) -> dict[str, Any]:
        return {
            "generator": self._rng.bit_generator.state,
            "seeds": list(self._seeds),
            "actions": [array_to_json(np.array(actions)) for actions in self._actions],
            "ended": [bool(ended) for ended in self._ended],
        }

    def restore(
        self, state: dict[str, Any], observations: NDArray[np.float32], beat: Callable[[], None] = lambda: None
    ) -> bool:
        if len(state.get("seeds", ())) != self.num_envs:
            return False
        self._rng = np.random.default_rng()
        self._rng.bit_generator.state = state["generator"]
        for index, (seed, actions) in enumerate(zip(state["seeds"], state["actions"], strict=True)):
            if not self._replay(index, seed, array_from_json(actions).tolist(), beat):
                return False
        return self._ended == state["ended"] and self._observations.tobytes() == observations.tobytes()

    def _replay(self, index: int, seed: int, actions: list[int], beat: Callable[[], None]) -> bool:
        """Take one environment through its episode again; False where that is too long, or ends too early."""
        if len(actions) > REPLAYABLE_STEPS:
            return False
        self._begin(index, seed)
        for action in actions:
            if self._ended[index]:
                return False
            self._act(index, action)
            beat()
        return True

    def _begin(self, index: int, seed: int) -> None:
        returned = self._run(self._environments[index].reset, seed=seed)
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise ValueError(RESET_RETURNS)
        observation, _ = returned
        _expect("observation", observation, self._shape, _NUMBERS)
        self._observations[index] = observation
        self._rewards[index] = 0.0
        self._terminated[index] = self._truncated[index] = self._ended[index] = False
        self._seeds[index] = seed
        del self._actions[index][:]
        self._beat()

    def _act(self, index: int, action: int) -> None:
        returned = self._run(self._environments[index].step, action + self._action_start)
        try:
            observation, reward, terminated, truncated, _ = returned
        except (TypeError, ValueError):
            raise ValueError(STEP_RETURNS) from None
        # What nearly all environments return is let through here: the full look costs several times as much.
        if getattr(observation, "dtype", None) is not _FLOAT32 or observation.shape != self._shape:
            _expect("observation", observation, self._shape, _NUMBERS)
        if not isinstance(reward, float):
            _expect("reward", reward, (), _NUMBERS)
        if not (isinstance(terminated, bool) and isinstance(truncated, bool)):
            _expect("terminated", terminated, (), _BOOLEANS)
            _expect("truncated", truncated, (), _BOOLEANS)
        self._observations[index] = observation
        self._rewards[index] = reward
        self._terminated[index] = terminated
        self._truncated[index] = truncated
        self._ended[index] = terminated or truncated
        actions = self._actions[index]
        if len(actions) <= REPLAYABLE_STEPS:
            actions.append(action)


def close_all(environments: Iterable[Any]) -> None:
    """Close environments; where some raise, say so on standard error: what they were made for is done by then.

    In one line, not a traceback: a log's last traceback is taken for what its process has died of.
    """
    errors = []
    for environment in environments:
        try:
            environment.close()
        except (Exception, SystemExit) as error:
            errors.append(error)
    if errors:
        several = f" of {len(errors)} environments" if len(errors) > 1 else " of an environment"
        print(f"close(){several} failed: {brief(errors[0])}", file=sys.stderr, flush=True)


def brief(error: BaseException) -> str:
    """An exception in one line of bounded length."""
    try:
        message = " ".join(str(error).split())
    except Exception:  # of a third party, as its __str__ is
        message = ""
    name = type(error).__name__
    if not message:
        return name
    return (message if type(error) is ValueError else f"{name}: {message}")[:500]


def array_to_json(values: NDArray[Any]) -> dict[str, Any]:
    """An array of numbers, exactly, as plain JSON."""
    data = base64.b64encode(values.tobytes()).decode("ascii")
    return {"dtype": values.dtype.str, "shape": list(values.shape), "data": data}


def array_from_json(written: dict[str, Any]) -> NDArray[Any]:
    """What `array_to_json` wrote; read-only."""
    return np.frombuffer(base64.b64decode(written["data"]), written["dtype"]).reshape(written["shape"])


def _to_json(value: Any) -> Any:
    """A vector environment's attribute as plain JSON; TypeError where it is of a kind that is not supported."""
    if isinstance(value, np.random.Generator) and isinstance(value.bit_generator, np.random.PCG64):
        return value.bit_generator.state
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        return array_to_json(value)
    if type(value) in (type(None), bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    raise TypeError(type(value).__name__)


def _layout(state: dict[str, Any]) -> dict[str, Any]:
    """What must not change when attributes are set back: their names, and what kind of array or generator they are."""
    keys = ("dtype", "shape", "bit_generator")
    return {name: isinstance(value, dict) and [value.get(key) for key in keys] for name, value in state.items()}


def _expect(name: str, value: Any, shape: tuple[int, ...], kinds: str) -> None:
    """Refuse what NumPy would quietly broadcast or convert.

    Raises:
        ValueError: `value` is of another shape, or of a dtype that is not of these `kinds`.
    """
    values = np.asarray(value)
    if values.shape != shape:
        raise ValueError(f"{name} of shape {values.shape}, expected {shape}")
    if values.dtype.kind not in kinds:
        raise ValueError(f"{name} of dtype {values.dtype}, expected {'numbers' if 'f' in kinds else 'booleans'}")
