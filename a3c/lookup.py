"""Environments other than the default one: found by id, module or kept spec, and tried once before training."""

import ast
import copy
import importlib
import inspect
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv

from a3c.config import ConfigError, did_you_mean
from a3c.environments import UNLIMITED, Environments, EnvironmentSpec, Pace, make_scalar, spaces_of, split
from a3c.heads import Head, head_for, indifferent
from a3c.native import NativeEnvironments, make_native
from a3c.serial import RESET_RETURNS, STEP_RETURNS, SerialEnvironments, brief
from a3c.spaces import MASK, ObservationSpec, mask_of, observation_spec

LARGEST_SPEC = 2**16  # characters of JSON
ATARI = "ALE/"  # how the ids of its games begin
EXTRAS = {"ale_py": "atari", "minigrid": "minigrid"}  # modules that register environments, and the extras with them
OWN_MODULES = ("gymnasium.",)  # whose environments every process knows by their id
SEED = 0  # of the trial
HINTS = {  # to complaints of Gymnasium's own wrappers about environments of the old API
    r"fails in reset.*unpack": RESET_RETURNS,
    r"fails in step.*unpack": STEP_RETURNS,
    r"unexpected keyword argument '(seed|options)'": "reset is called with seed and options",
}


class UnknownError(ConfigError):
    """No environment has this id; another process may still have registered one."""


def describe_other(
    env_id: str,
    max_episode_steps: int | None,
    kept: dict[str, Any] | None,
    step: bool,
    env_kwargs: tuple[str, ...],
    wrappers: tuple[str, ...],
) -> EnvironmentSpec:
    """As `a3c.environments.describe`, for another environment than the default."""
    spec = find(env_id, kept, env_kwargs, wrappers)
    if spec.max_episode_steps is None and max_episode_steps is None:
        max_episode_steps = UNLIMITED
    with _process_preserved():
        began = time.monotonic()
        with refused(env_id, "fails in its constructor"):
            one = make_scalar(spec, max_episode_steps)
            _ = one.observation_space, one.action_space
        made = time.monotonic()
        with _closed(one):
            with _unsupported(env_id):
                head = head_for(one.action_space)
                observation_spec(one.observation_space, head.outputs)  # refused before anything is called
            with refused(env_id, "fails in reset"):
                returned: Any = one.reset(seed=SEED)
            reset = time.monotonic()
            with _unsupported(env_id):
                serial = SerialEnvironments([one], observation=_with_info_mask(one, head, returned))
            with refused(env_id, "fails in reset"):
                seen = serial.begun(0, returned, SEED)
            stepped = _try_step(env_id, serial, seen) if step else 0.0
        pace = Pace(made - began, reset - made, stepped) if step else Pace()
        native = _has_native(env_id, spec, max_episode_steps, serial, step)
    module, _ = split(env_id)
    limit = spec.max_episode_steps if max_episode_steps is None else max_episode_steps
    written = to_json(spec) if module is None and not (env_kwargs or wrappers) else None
    typed, spaces = (env_kwargs, wrappers), spaces_of(one, serial.observation)
    given = (spec, serial.observation, serial.head, spaces, limit, module, written, *typed, native, pace)
    return EnvironmentSpec(*given, training=_of_training(spec))


def _of_training(spec: EnvSpec) -> dict[str, Any]:
    """The arguments that environments have in training alone: those of Atari, as far as they are not given."""
    if not spec.id.startswith(ATARI):
        return {}
    from a3c.atari import TRAINING

    return {name: value for name, value in TRAINING.items() if name not in spec.kwargs}


@contextmanager
def _unsupported(env_id: str) -> Iterator[None]:
    """Have a ValueError about a space name the environment."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"env: '{env_id}' {error}") from error


def _with_info_mask(one: gymnasium.Env[Any, Any], head: Head, returned: Any) -> ObservationSpec | None:
    """The observations of an environment whose reset has returned a mask in `info`; None where it has none."""
    info = returned[1] if isinstance(returned, tuple | list) and len(returned) == 2 else {}
    if not isinstance(info, dict) or MASK not in info or mask_of(one.observation_space) is not None:
        return None
    if not head.groups:
        raise ValueError(f"gives an '{MASK}', which its actions cannot have")
    return observation_spec(one.observation_space, head.outputs, info_mask=True)


def find(
    env_id: str, kept: dict[str, Any] | None = None, env_kwargs: tuple[str, ...] = (), wrappers: tuple[str, ...] = ()
) -> EnvSpec:
    """The spec of "Env-v0", of "module:Env-v0" once that module is imported, or of "module:Class".

    `kept` is what `to_json` wrote of an environment, for an id that is unknown here. An UnknownError where there is
    none, a ConfigError where its arguments or wrappers cannot be used.
    """
    spec = _named(env_id, kept)
    spec.kwargs = {**spec.kwargs, **dict(map(_argument, env_kwargs))}
    spec.additional_wrappers = (*spec.additional_wrappers, *map(_wrapper, wrappers))
    return spec


def _argument(typed: str) -> tuple[str, Any]:
    """An argument of an environment's constructor: a Python literal, else a text."""
    name, equals, value = typed.partition("=")
    if not (equals and name.isidentifier()):
        raise ConfigError(f"env_kwargs: expected NAME=VALUE, got {typed!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, {"true": True, "false": False}.get(value, value)


def _wrapper(typed: str) -> WrapperSpec:
    module, _, name = typed.rpartition(":")
    if not module:
        raise ConfigError(f"wrappers: expected MODULE:CLASS, got {typed!r}")
    try:
        found = getattr(import_module(module), name, None)
    except Exception as error:  # the module is the user's
        raise ConfigError(f"wrappers: '{typed}' cannot be imported: {brief(error)}") from error
    if not (isinstance(found, type) and issubclass(found, gymnasium.Wrapper)):
        raise ConfigError(f"wrappers: '{typed}' is no gymnasium.Wrapper class")
    return WrapperSpec(name, typed, {})


def _named(env_id: str, kept: dict[str, Any] | None) -> EnvSpec:
    module, name = split(env_id)
    found: Any
    if module is None and name.startswith(ATARI):
        _import_extra(name, "ale_py")
    elif module in EXTRAS:
        _import_extra(env_id, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns that a newer version exists; the user chose this one
        if module is not None:
            with refused(env_id, f"cannot be found: its module '{module}' cannot be imported"):
                found = vars(import_module(module)).get(name)
            own = inspect.isfunction(found) and found.__module__ == module
            if own or (isinstance(found, type) and issubclass(found, gymnasium.Env)):
                return EnvSpec(name, f"{module}:{name}")
        try:
            spec = copy.copy(gymnasium.spec(name))
        except gymnasium.error.Error as error:
            if kept is not None:
                return _from_json(kept)
            hint = did_you_mean(name, gymnasium.registry) or f"; {str(error).rstrip('.')}"
            if module is not None and "did you mean" not in hint:
                hint = f"; module '{module}' neither registers it nor has an environment class of that name"
            raise UnknownError(f"env: unknown environment '{env_id}'{hint}") from None
    if module is None and name.startswith(ATARI):
        from a3c.atari import atari_spec

        return atari_spec(spec)
    for role in ("entry_point", "vector_entry_point"):
        found = getattr(spec, role)
        # A class by its name, where that will do: a process then imports it only when it makes the environment.
        if isinstance(found, type) and found.__module__ != "__main__":
            is_known = getattr(sys.modules.get(found.__module__), found.__qualname__, None) is found
            setattr(spec, role, f"{found.__module__}:{found.__qualname__}" if is_known else found)
    return spec


def _import_extra(env_id: str, module: str) -> None:
    """Have a package of one of our extras register its environments."""
    try:
        import_module(module)
    except ModuleNotFoundError:
        extra = EXTRAS[module]
        raise ConfigError(
            f"env: '{env_id}' needs the packages of the extra \"{extra}\": "
            f'pip install -c constraints.txt -e ".[{extra}]"'
        ) from None


def id_of(make: Any) -> str:
    """The id by which all processes find a user's class or function that makes an environment, or a ConfigError.

    One of a module is found there. One of the user's own script is registered, and the script is imported.
    """
    module, name = getattr(make, "__module__", None), getattr(make, "__qualname__", "")
    if not module or not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not make:
        raise ConfigError(
            f"env: other processes cannot find {make!r}; give a class or function of a module by its name"
        )
    if module != "__main__":
        return f"{module}:{name}"
    gymnasium.register(name, make)
    return name


def import_module(module: str) -> Any:
    """Import a module, also from the current folder, which then is the last of `sys.path`: the processes inherit it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        try:
            folder = os.getcwd()
        except OSError:  # it has been deleted
            raise error from None
        if folder in sys.path:
            raise
    sys.path.append(folder)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        sys.path.remove(folder)
        raise


def to_json(spec: EnvSpec) -> dict[str, Any] | None:
    """A spec as plain JSON; None where that would not be the same spec, or where its id says as much anywhere."""
    if not isinstance(spec.entry_point, str) or spec.entry_point.startswith(OWN_MODULES):
        return None
    try:
        content: dict[str, Any] = json.loads(spec.to_json())
        text = json.dumps(content, allow_nan=False)
        same = len(text) <= LARGEST_SPEC and EnvSpec.from_json(text) == spec
    except Exception:  # a third party's objects may fail in any way
        return None
    return content if same else None


def _from_json(content: dict[str, Any]) -> EnvSpec:
    """The spec that `to_json` wrote, else an UnknownError. Only classes of environments and wrappers are called."""
    with refused(str(content.get("id")), "is unknown, and cannot be made from what is kept of it", UnknownError):
        spec = EnvSpec.from_json(json.dumps(content))
        parts: list[tuple[Any, type]] = [(spec.entry_point, gymnasium.Env), (spec.vector_entry_point, VectorEnv)]
        parts += [(wrapper.entry_point, gymnasium.Wrapper) for wrapper in spec.additional_wrappers]
        for name, kind in parts:
            if name is not None:
                import_module(str(name).partition(":")[0])
                found = load_env_creator(str(name))
                if not (isinstance(found, type) and issubclass(found, kind)):
                    raise ValueError(f"'{str(name)[:200]}' is no {kind.__name__} class")
    return spec


def _has_native(
    env_id: str, spec: EnvSpec, max_episode_steps: int | None, serial: SerialEnvironments, step: bool
) -> bool:
    """Whether there is a vector version that can be used; not one with other spaces, or autoreset of another kind."""
    if spec.vector_entry_point is None or spec.additional_wrappers:  # Gymnasium makes none with wrappers
        return False
    whose = " of its vector version"
    with refused(env_id, f"fails in the constructor{whose}"):
        vector: Any = make_native(spec, 2, max_episode_steps)
        _ = vector.single_observation_space, vector.single_action_space
    with _closed(vector):
        try:
            native = NativeEnvironments(vector)
        except ValueError:
            return False
        same_spaces = (native.observation, native.head) == (serial.observation, serial.head)
        if not same_spaces or vector.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            return False
        if step:
            with refused(env_id, f"fails in reset{whose}"):
                observations, _ = native.reset(seed=SEED)
            _try_step(env_id, native, observations, whose)
    return True


def _try_step(env_id: str, environments: Environments, observations: Any, whose: str = "") -> float:
    """Step once from the first observations, and check that both are finite; how many seconds the step took."""
    head, seconds = environments.head, 0.0
    for call in ("reset", "step"):
        with refused(env_id, f"fails in {call}{whose}"):
            if call == "step":
                began = time.monotonic()
                observations = environments.step(head.mode(indifferent(head, environments.observation, observations)))[
                    0
                ]
                seconds = time.monotonic() - began
            with np.errstate(all="ignore"):
                numbers = np.asarray(observations, np.float32)
            if not np.isfinite(numbers).all():  # every rollout would be dropped
                raise ValueError(f"observation that is not finite in 32 bits: {str(observations[0].tolist())[:100]}")
    return seconds


@contextmanager
def refused(env_id: str, what: str, kind: type[ConfigError] = ConfigError) -> Iterator[None]:
    """Turn whatever a third party raises, sys.exit included, into one line that names the environment."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        line = f"env: '{env_id}' {what}: {brief(error)}"
        raise kind("; ".join([line, *(hint for pattern, hint in HINTS.items() if re.search(pattern, line))])) from error


@contextmanager
def _closed(environment: Any) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(Exception, SystemExit):  # the processes that use one report what its close() raises
            environment.close()


@contextmanager
def _process_preserved() -> Iterator[None]:
    """Put back what an environment may change in its process: the folder, warnings, NumPy's and torch's settings."""
    folder, dtype = os.open(".", getattr(os, "O_PATH", os.O_RDONLY)), torch.get_default_dtype()
    try:
        with warnings.catch_warnings(), np.errstate():
            yield
    finally:
        torch.set_default_dtype(dtype)
        os.fchdir(folder)
        os.close(folder)
