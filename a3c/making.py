"""Environments made from their specs, scalar or as Gymnasium's own vector version."""

import copy
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from a3c.surroundings import numbers_preserved


def has_native(spec: EnvSpec) -> bool:
    """Whether there is a vector version; Gymnasium makes none with wrappers around it."""
    return spec.vector_entry_point is not None and not spec.additional_wrappers


def make_native(spec: EnvSpec, count: int, max_episode_steps: int | None) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """The vector version of `count` environments."""
    options: dict[str, Any] = {} if max_episode_steps is None else {"max_episode_steps": max_episode_steps}
    with numbers_preserved():
        return gymnasium.make_vec(spec, count, gymnasium.VectorizeMode.VECTOR_ENTRY_POINT, **options)


def make_scalar(
    spec: EnvSpec, max_episode_steps: int | None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """One scalar environment, its time limit included.

    Without Gymnasium's checks of what is returned and of the order of calls, for which a step passes through two more
    wrappers: what is returned is checked where it is used, more strictly (a3c/batches.py).
    """
    spec = copy.copy(spec)
    spec.order_enforce, spec.disable_env_checker = False, True
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}  # not all know the option
    with numbers_preserved():
        return gymnasium.make(spec, max_episode_steps=max_episode_steps, **options)
