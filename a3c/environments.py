"""Gymnasium environments: looked up, known to be usable, and made."""

import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from a3c.batches import Environments, NativeEnvironments, SerialEnvironments
from a3c.config import ConfigError, did_you_mean


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
                return NativeEnvironments(native)
            native.close()
        return SerialEnvironments([self.make_one() for _ in range(count)])

    def make_one(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """One scalar environment, its time limit included.

        Without Gymnasium's checks of what is returned and of the order of calls, for which a step passes through two
        more wrappers: what is returned is checked where it is used, more strictly (a3c/batches.py).
        """
        spec = copy.copy(self.spec)
        spec.order_enforce, spec.disable_env_checker = False, True
        rendering: dict[str, Any] = (
            {} if render_mode is None else {"render_mode": render_mode}
        )  # not all know the option
        return gymnasium.make(spec, max_episode_steps=self.max_episode_steps, **rendering)


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
    return EnvironmentSpec(_by_name(spec), observation_size, action_count, spec.reward_threshold, limit)


def _by_name(spec: EnvSpec) -> EnvSpec:
    """The spec with its class named instead of held, where a name will do.

    So a process that gets it imports the class when it makes the environment, and can tell if that fails.
    """
    entry_point = spec.entry_point
    if not isinstance(entry_point, type) or entry_point.__module__ == "__main__":
        return spec
    if getattr(sys.modules.get(entry_point.__module__), entry_point.__qualname__, None) is not entry_point:
        return spec
    named = copy.copy(spec)
    named.entry_point = f"{entry_point.__module__}:{entry_point.__qualname__}"
    return named


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
