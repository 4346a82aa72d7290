"""Gymnasium environments: looked up, known to be usable, and made."""

import pickle
import pickletools
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from a3c.batches import Environments, NativeEnvironments, SerialEnvironments, close_all
from a3c.config import Config
from a3c.heads import Categorical
from a3c.look import Pace, look
from a3c.making import make_native, make_scalar
from a3c.registry import find, split, to_json
from a3c.spaces import ObservationSpec

__all__ = ["EnvironmentSpec", "Pace", "describe", "needs_main"]


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What a run has to know of its environment, and how to make it in any process."""

    spec: EnvSpec  # carries the entry point, so that a process that never registered the id can make it too
    observation_size: int
    action_count: int
    reward_threshold: float | None
    max_episode_steps: int | None
    module: str | None = None  # registers the id where it is imported; None: the id is known without
    action_start: int = 0  # the environment's number of its first action
    native: bool = False  # whether batches are Gymnasium's own vector version
    pace: Pace = field(default_factory=Pace)

    @property
    def observation(self) -> ObservationSpec:
        """What it observes."""
        return ObservationSpec((self.observation_size,))

    @property
    def head(self) -> Categorical:
        """What its actions need of a network."""
        return Categorical(self.action_count, self.action_start)

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
        return self.reward_threshold if wanted is None else wanted

    def identity(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that any process can make it later."""
        kept = to_json(self.spec) if self.module is None else None
        spec = {} if kept is None else {"env_spec": kept}
        return {"env_id": self.env_id, **spec, "max_episode_steps": self.max_episode_steps}

    def facts(self) -> dict[str, Any]:
        """What can be written down of it."""
        return {
            **self.identity(),
            "observation_size": self.observation_size,
            "action_count": self.action_count,
            "action_start": self.action_start,
            "reward_threshold": self.reward_threshold,
        }

    def differences(self, facts: Any) -> list[str]:
        """What is otherwise in the `facts` of another one; how it is found may have changed."""
        facts = facts if isinstance(facts, dict) else {}
        before = {"action_start": 0, **facts, "env_id": split(str(facts.get("env_id")))[1]}
        now = {**self.facts(), "env_id": self.spec.id}
        return [
            f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in now.items()
            if name != "env_spec" and before.get(name) != value
        ]

    def make(self, count: int, beat: Callable[[], None] = lambda: None) -> Environments:
        """`count` environments: Gymnasium's native vector version where there is one, else one after the other.

        A single environment is always the scalar one: a native batch of one costs six times its step.

        Args:
            beat: called after each environment that is made and, where they are scalar, reset; may raise.
        """
        context = copy_context()
        if count > 1 and self.native:
            made_at_once = context.run(make_native, self.spec, count, self.max_episode_steps)
            native = NativeEnvironments(made_at_once, context)
            beat()
            return native
        made = list[gymnasium.Env[Any, Any]]()
        try:
            for _ in range(count):
                made.append(context.run(self.make_one))
                beat()
        except BaseException:
            close_all(made)
            raise
        return SerialEnvironments(made, beat, context)

    def make_one(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """One scalar environment, its time limit included."""
        return make_scalar(self.spec, self.max_episode_steps, render_mode)


def describe(
    env_id: str, max_episode_steps: int | None = None, kept: dict[str, Any] | None = None, step: bool = True
) -> EnvironmentSpec:
    """Look an environment up, and have one look at it: one is made, reset and stepped, with the checks of training.

    Args:
        kept: the `env_spec` of a checkpoint, for an id that is unknown here.
        step: False: neither reset nor step it, as where it is known to be right, or is used in this process anyway. The
            default environment is always known to be right.
    Raises:
        ConfigError: unknown id, spaces that are not supported, or a constructor, reset or step that fails.
    """
    module, _ = split(env_id)
    spec = find(env_id, kept)
    seen = look(env_id, spec, max_episode_steps, step=step and env_id != Config().env)
    return EnvironmentSpec(
        spec=spec,
        observation_size=seen.observation_size,
        action_count=seen.action_count,
        reward_threshold=spec.reward_threshold,
        max_episode_steps=spec.max_episode_steps if max_episode_steps is None else max_episode_steps,
        module=module,
        action_start=seen.action_start,
        native=seen.native,
        pace=seen.pace,
    )


def needs_main(spec: EnvSpec) -> bool:
    """Whether a spec names something of the user's own script: a class, or an object of one among its arguments."""
    names = (name for _, name, _ in pickletools.genops(pickle.dumps(spec)) if isinstance(name, str))
    return any(name == "__main__" or name.startswith(("__main__:", "__main__ ")) for name in names)
