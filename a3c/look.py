"""One look at an environment before anything is built on it: it is made, reset and stepped once, as workers do it."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from a3c.batches import RESET_RETURNS, STEP_RETURNS, Environments, NativeEnvironments, SerialEnvironments
from a3c.config import ConfigError
from a3c.making import has_native, make_native, make_scalar
from a3c.registry import naming
from a3c.surroundings import process_preserved

SEED = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an environment has taken, in seconds; zeros where nobody has looked."""

    make_seconds: float = 0.0
    reset_seconds: float = 0.0
    step_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the look has shown."""

    observation_size: int
    action_count: int
    action_start: int
    native: bool  # whether its vector version can be used
    pace: Pace


def look(env_id: str, spec: EnvSpec, max_episode_steps: int | None, step: bool = True) -> Seen:
    """Make an environment, and a small batch of its vector version where it has one; reset and step them.

    Args:
        step: False: neither reset nor step it.
    Raises:
        ConfigError: what would stop every worker: names the environment, the call and what is wrong.
    """
    with process_preserved():
        return _look(env_id, spec, max_episode_steps, step)


def _look(env_id: str, spec: EnvSpec, max_episode_steps: int | None, step: bool) -> Seen:
    began = time.monotonic()
    with naming(env_id, "fails in its constructor"):
        one = make_scalar(spec, max_episode_steps)
        spaces = one.observation_space, one.action_space
    make_seconds = time.monotonic() - began
    with _closed(one):
        size, count = _observation_size(env_id, spaces[0]), _action_count(env_id, spaces[1])
        start: int = int(spaces[1].start)  # type: ignore[attr-defined]
        pace = Pace()
        if step:
            action = int(np.random.default_rng(SEED).integers(count))
            pace = Pace(make_seconds, *_try(env_id, SerialEnvironments([one]), action, ""))
    native = has_native(spec) and _look_at_native(env_id, spec, max_episode_steps, size, count, step)
    return Seen(size, count, start, native, pace)


def _look_at_native(
    env_id: str, spec: EnvSpec, max_episode_steps: int | None, size: int, count: int, step: bool
) -> bool:
    """Whether the vector version can be used: False where it resets or counts actions in a way of its own."""
    whose = " of its vector version"
    with naming(env_id, f"fails in the constructor{whose}"):
        native: Any = make_native(spec, 2, max_episode_steps)
        action_space, observations = native.single_action_space, native.single_observation_space
    with _closed(native):
        if native.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP or action_space.start != 0:
            return False
        if observations.shape != (size,) or action_space.n != count:
            raise ConfigError(
                f"env: '{env_id}' has a vector version with other spaces: {brief_space(observations)}, "
                f"{brief_space(action_space)}"
            )
        if step:
            _try(env_id, NativeEnvironments(native), 0, whose)
    return True


def _try(env_id: str, environments: Environments, action: int, whose: str) -> tuple[float, float]:
    """Reset and step once; how many seconds each took."""
    with _faults(env_id, f"reset{whose}"):
        reset_seconds, (observations, _) = _timed(lambda: environments.reset(seed=SEED))
        _expect_finite(observations)
    with _faults(env_id, f"step{whose}"):
        actions = np.full(environments.num_envs, action)
        step_seconds, (observations, *_) = _timed(lambda: environments.step(actions))
        _expect_finite(observations)
    return reset_seconds, step_seconds


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result


def _expect_finite(observations: Any) -> None:
    """Refuse what makes every rollout be dropped."""
    with np.errstate(all="ignore"):
        numbers = np.asarray(observations, np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"observation that is not finite in 32 bits: {str(observations[0].tolist())[:100]}")


@contextmanager
def _faults(env_id: str, call: str) -> Iterator[None]:
    """As `naming`; the complaints of Gymnasium's own wrappers about the old API are translated."""
    with naming(env_id, f"fails in {call}"):
        try:
            yield
        except (TypeError, ValueError) as error:
            if (words := _translated(str(error), call)) is None:
                raise
            raise ValueError(words) from error


def _translated(message: str, call: str) -> str | None:
    if re.search(r"values to unpack|cannot unpack", message):
        return f"{STEP_RETURNS if call.startswith('step') else RESET_RETURNS}: {message}"
    if re.search(r"unexpected keyword argument '(seed|options)'", message):
        return f"{message}; reset is called with seed and options"
    return None


@contextmanager
def _closed(environment: Any) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(Exception, SystemExit):  # the processes that use one report what its close() raises
            environment.close()


def _observation_size(env_id: str, space: Any) -> int:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or space.shape[0] == 0:
        raise ConfigError(
            f"env: '{env_id}' observes {brief_space(space)}; supported is a Box with one dimension "
            "(a vector of at least one number)"
        )
    return int(space.shape[0])


def _action_count(env_id: str, space: Any) -> int:
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ConfigError(f"env: '{env_id}' acts in {brief_space(space)}; supported is Discrete (one of n actions)")
    return int(space.n)


def brief_space(space: Any) -> str:
    """A space's kind and shape."""
    return f"{type(space).__name__}{getattr(space, 'shape', None) or ''}"
