"""Gymnasium environments: what a run knows of its environment, and how any of its processes makes a batch of them."""

import copy
import dataclasses
import json
import math
import pickle
import pickletools
import time
import warnings
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from a3c.config import DEFAULT_ENV
from a3c.heads import Head
from a3c.serial import SerialEnvironments, Step, close_all
from a3c.spaces import ObservationSpec, to_json

NATIVE_FROM = 5  # environments: four are faster one after the other (CartPole-v1: 25 us against 42)
UNLIMITED = 10_000  # steps after which episodes are cut that nothing else ends: a greedy one may go in circles
NAP_SECONDS = 0.5  # asleep without a heartbeat


class Environments(Protocol):
    """A batch of B environments, each reset by the step after its end, which rewards 0 (next-step autoreset)."""

    num_envs: int
    observation: ObservationSpec
    head: Head

    def reset(self, *, seed: int | None = None) -> tuple[NDArray[Any], dict[str, Any]]: ...

    def step(self, actions: NDArray[Any], /) -> Step:
        """Take the head's actions [B, *action_shape]."""

    def close(self) -> None: ...

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on: JSON values and NumPy arrays."""

    def restore(self, state: dict[str, Any], observations: NDArray[Any], beat: Callable[[], None] = ...) -> bool:
        """Return to where `state` was taken and `observations` [B, ...] came last; False: impossible, reset instead."""


class SlowEnvironments:
    """Environments whose every step takes `latency_ms` longer, as with simulators and robots elsewhere."""

    def __init__(self, environments: Environments, latency_ms: float, beat: Callable[[], None]):
        self._environments, self._beat, self.num_envs = environments, beat, environments.num_envs
        self.observation, self.head = environments.observation, environments.head
        self.reset, self.close = environments.reset, environments.close
        self.state, self.restore = environments.state, environments.restore
        seconds = latency_ms / 1000 * environments.num_envs  # those of one worker step one after the other
        self._naps = max(math.ceil(seconds / NAP_SECONDS), 1)
        self._nap_seconds = seconds / self._naps

    def step(self, actions: NDArray[Any], /) -> Step:
        for nap in range(self._naps):
            if nap:
                self._beat()
            time.sleep(self._nap_seconds)
        return self._environments.step(actions)


@dataclass(frozen=True, slots=True)
class Pace:
    """How many seconds each call of an environment took; zeros where nothing was measured."""

    make_seconds: float = 0.0
    reset_seconds: float = 0.0
    step_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What a run knows of its environment, and how to make it in any process."""

    spec: EnvSpec  # carries the entry point, so that a process that never registered the id can make it too
    observation: ObservationSpec
    head: Head
    spaces: dict[str, Any]  # its own, as JSON
    max_episode_steps: int | None
    module: str | None = None  # registers the id where it is imported; None: the id is known without
    kept: dict[str, Any] | None = None  # the spec as JSON, where its id alone does not find it
    env_kwargs: tuple[str, ...] = ()  # as they were typed; the spec has them too
    wrappers: tuple[str, ...] = ()
    native: bool = False  # whether batches are Gymnasium's own vector version
    pace: Pace = Pace()
    pooled: float | None = None  # seconds of an env step in EnvPool's, where a worker's batches are that
    training: dict[str, Any] = dataclasses.field(default_factory=dict)  # arguments in training alone

    @property
    def env_id(self) -> str:
        """The id by which any process finds it: "module:Env-v0" where a module registers it."""
        return self.spec.id if self.module is None else f"{self.module}:{self.spec.id}"

    @property
    def needs_main(self) -> bool:
        """Whether a process that makes it has to import the user's own script."""
        return needs_main(self.spec)

    def target(self, wanted: float | None) -> float | None:
        """The return that counts as solved: the user's where one is given, else the environment's own."""
        return self.spec.reward_threshold if wanted is None else wanted

    def identity(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that any process can make it later."""
        spec = {} if self.kept is None else {"env_spec": self.kept}
        chosen = {"env_kwargs": self.env_kwargs, "wrappers": self.wrappers}
        typed = {name: list(values) for name, values in chosen.items() if values}
        return {"env_id": self.env_id, **spec, **typed, "max_episode_steps": self.max_episode_steps}

    def description(self) -> dict[str, Any]:
        """What config.json keeps."""
        return {**self.identity(), **self.spaces, "reward_threshold": self.spec.reward_threshold}

    def differences(self, description: Any) -> list[str]:
        """How it differs from the environment of a `description`; how an environment is found may have changed."""
        before = dict(description) if isinstance(description, dict) else {}
        before["env_id"] = split(str(before.get("env_id")))[1]
        now = {**self.description(), "env_id": self.spec.id}
        if "observation_size" in before:  # written when all were vectors and one of n actions
            now = {name: value for name, value in now.items() if name not in self.spaces}
            now |= sizes(self.observation, self.head)
            before = {"action_start": 0, **before}
        return [
            f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in now.items()
            if name != "env_spec" and json.dumps(before.get(name)) != json.dumps(value)  # the order of parts too
        ]

    def is_batched(self, count: int) -> bool:
        """Whether so many are stepped by one call."""
        return self.native and (count >= NATIVE_FROM or bool(self.observation.images))

    def notes(self) -> list[str]:
        """What a user should know of how it is taken."""
        parts, spec = ", ".join(map(repr, self.observation.left_out)), self.spec
        found = {
            f"the network does not see {parts} of the observation": parts,
            f"no time limit: episodes are cut after {self.max_episode_steps:,} steps (--max-episode-steps)": (
                spec.max_episode_steps is None and self.max_episode_steps == UNLIMITED
            ),
            "actions are masked": self.observation.mask,
            f"in training alone: {', '.join(self.training)}; evaluations play for the true return": self.training,
        }
        return [note for note, is_true in found.items() if is_true]

    def make(
        self, count: int, beat: Callable[[], None] = lambda: None, latency_ms: float = 0.0, training: bool = False
    ) -> Environments:
        """A batch: Gymnasium's native vector version where there is one and it pays, else scalar environments.

        Args:
            beat: called after each environment that is made and, where they are scalar, reset; may raise.
            latency_ms: milliseconds that each environment adds to every step.
            training: whether it is what a worker trains with: EnvPool's batch will do, where the run has chosen that.
        """
        if training and self.training:
            spec = copy.copy(self.spec)
            spec.kwargs = {**self.training, **spec.kwargs}
            return dataclasses.replace(self, spec=spec, training={}).make(count, beat, latency_ms, training)
        context, environments = copy_context(), list[Any]()
        batch: Environments
        try:
            pooled = training and self.pooled is not None
            if pooled or self.is_batched(count):
                from a3c.native import NativeEnvironments

                environments.append(context.run(self._make_vector, count, pooled))
                beat()
                batch = NativeEnvironments(environments[0], context)
            else:
                for _ in range(count):
                    environments.append(context.run(self.make_one))
                    beat()
                batch = SerialEnvironments(environments, beat, context, self.observation)
        except BaseException:
            close_all(environments)
            raise
        return SlowEnvironments(batch, latency_ms, beat) if latency_ms else batch

    def _make_vector(self, count: int, pooled: bool) -> Any:
        if pooled:
            from a3c.pool import PooledVector

            return PooledVector(self, count)
        from a3c.native import make_native

        return make_native(self.spec, count, self.max_episode_steps)

    def make_one(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """One scalar environment, its time limit included."""
        return make_scalar(self.spec, self.max_episode_steps, render_mode)


def describe(
    env_id: str,
    max_episode_steps: int | None = None,
    kept: dict[str, Any] | None = None,
    step: bool = True,
    env_kwargs: tuple[str, ...] = (),
    wrappers: tuple[str, ...] = (),
) -> EnvironmentSpec:
    """Find an environment and try it: one is made, reset and stepped; a ConfigError where any of that fails.

    Args:
        kept: the `env_spec` of a checkpoint, for an id that is unknown here.
        step: False: only make and reset it, as where it is known to be right (the default environment always is).
        env_kwargs, wrappers: as `Config` has them.
    """
    if (env_id, env_kwargs, wrappers) != (DEFAULT_ENV, (), ()):
        from a3c.lookup import describe_other

        return describe_other(env_id, max_episode_steps, kept, step, env_kwargs, wrappers)
    spec = gymnasium.spec(env_id)
    scalar = make_scalar(spec, max_episode_steps)
    one = SerialEnvironments([scalar])
    one.close()
    spaces = spaces_of(scalar, one.observation)
    limit = max_episode_steps or spec.max_episode_steps
    return EnvironmentSpec(spec, one.observation, one.head, spaces, limit, native=True)


def sizes(observation: ObservationSpec, head: Head) -> dict[str, int]:
    """A flat observation and a discrete action, as they were described before spaces were kept."""
    start: int = getattr(head, "start", 0)
    return {"observation_size": observation.size, "action_count": head.outputs, "action_start": start}


def spaces_of(environment: gymnasium.Env[Any, Any], observation: ObservationSpec) -> dict[str, Any]:
    """What config.json and manifests keep of an environment's spaces."""
    spaces = {f"{kind}_space": to_json(getattr(environment, f"{kind}_space")) for kind in ("observation", "action")}
    return {**spaces, "info_mask": observation.info_mask}


def make_scalar(
    spec: EnvSpec, max_episode_steps: int | None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """One scalar environment, without Gymnasium's checks of what it returns and of the order of calls.

    Those are two wrappers more for every step to pass; a3c/serial.py checks more strictly what is returned.
    """
    spec = copy.copy(spec)
    spec.order_enforce, spec.disable_env_checker = False, True
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}  # not all know the option
    with warnings.catch_warnings(), np.errstate():  # which third parties change, and our own arithmetic depends on
        return gymnasium.make(spec, max_episode_steps=max_episode_steps, **options)


def split(env_id: str) -> tuple[str | None, str]:
    """The module to import for an id, None where none is named, and the id that it registers."""
    module, colon, name = env_id.partition(":")
    return (module, name) if colon else (None, env_id)


def needs_main(spec: EnvSpec) -> bool:
    """Whether a spec names something of the user's own script: a class, or an object of one among its arguments."""
    names = (name for _, name, _ in pickletools.genops(pickle.dumps(spec)) if isinstance(name, str))
    return any(name == "__main__" or name.startswith(("__main__:", "__main__ ")) for name in names)
