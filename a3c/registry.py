"""Environment ids: the module that registers one, the spec behind it, and that spec as JSON."""

import copy
import importlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

from a3c.batches import brief
from a3c.config import ConfigError, did_you_mean

LARGEST_SPEC = 2**16  # characters of JSON
OWN_MODULES = ("gymnasium.",)  # whose environments every process knows by their id


class UnknownError(ConfigError):
    """No environment has this id; another process may still have registered one."""


def split(env_id: str) -> tuple[str | None, str]:
    """The module to import for an id, None where none is named, and the id that it registers."""
    module, colon, name = env_id.partition(":")
    return (module, name) if colon else (None, env_id)


def find(env_id: str, kept: dict[str, Any] | None = None) -> EnvSpec:
    """The spec of "Env-v0", or of "module:Env-v0" once that module is imported.

    Args:
        kept: what `to_json` wrote of an environment, for an id that is unknown here.
    Raises:
        UnknownError: there is none.
        ConfigError: the module is missing or fails.
    """
    try:
        return _find(env_id)
    except UnknownError:
        if kept is None:
            raise
        try:
            return from_json(kept)
        except ConfigError as error:
            raise UnknownError(str(error)) from error


def _find(env_id: str) -> EnvSpec:
    module, name = split(env_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gymnasium warns that a newer version exists; the user chose this one
        if module is not None:
            _import(env_id, module)
        try:
            return _by_name(gymnasium.spec(name))
        except gymnasium.error.Error as error:
            hint = did_you_mean(name, gymnasium.registry) or f"; {str(error).rstrip('.')}"
            raise UnknownError(f"env: unknown environment '{env_id}'{hint}") from None


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


def from_json(content: dict[str, Any]) -> EnvSpec:
    """The spec that `to_json` wrote.

    A file may come from anywhere: only classes of environments and of wrappers are ever called by what it says.

    Raises:
        ConfigError: it is no such spec, or what it names is not there or of another kind.
    """
    env_id = str(content.get("id"))
    with naming(env_id, "cannot be made from what is kept of it"):
        spec = EnvSpec.from_json(json.dumps(content))
        parts: list[tuple[Any, type]] = [(spec.entry_point, gymnasium.Env), (spec.vector_entry_point, VectorEnv)]
        parts += [(wrapper.entry_point, gymnasium.Wrapper) for wrapper in spec.additional_wrappers]
        for name, kind in parts:
            if name is not None:
                _check_class(env_id, str(name), kind)
    return spec


@contextmanager
def naming(env_id: str, what: str) -> Iterator[None]:
    """Turn whatever a third party raises, sys.exit included, into one line that names the environment."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigError(f"env: '{env_id}' {what}: {brief(error)}") from error


def _import(env_id: str, module: str) -> None:
    with naming(env_id, f"cannot be found: its module '{module}' cannot be imported"):
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if not _is_part(error.name, module):  # it is another package that its code asks for
                raise
            raise ConfigError(
                f"env: '{env_id}' cannot be found: No module named '{module}', neither installed nor in "
                "the current folder"
            ) from error


def import_module(module: str) -> Any:
    """Import a module; where it is not found, from the current folder too, as `python -c` does and scripts do not.

    The folder then stays the last of `sys.path`, which the run's processes inherit.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        try:
            folder = os.getcwd()
        except OSError:  # it has been deleted
            raise error from None
        if not _is_part(error.name, module) or folder in sys.path:
            raise
    sys.path.append(folder)
    try:
        return importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and _is_part(error.name, module):
            sys.path.remove(folder)
        raise


def _is_part(name: str | None, module: str) -> bool:
    """Whether `name` is a module or one of the packages that it is in."""
    return name is not None and f"{module}.".startswith(f"{name}.")


def _by_name(spec: EnvSpec) -> EnvSpec:
    """The spec with its classes named instead of held, where a name will do.

    So a process that gets it imports a class when it makes the environment, and can tell if that fails.
    """
    named = copy.copy(spec)
    named.entry_point, named.vector_entry_point = _name(spec.entry_point), _name(spec.vector_entry_point)
    return named


def _name(entry_point: Any) -> Any:
    if not isinstance(entry_point, type) or entry_point.__module__ == "__main__":
        return entry_point
    module, name = entry_point.__module__, entry_point.__qualname__
    is_there = getattr(sys.modules.get(module), name, None) is entry_point
    return f"{module}:{name}" if is_there else entry_point


def _check_class(env_id: str, name: str, kind: type) -> None:
    import_module(name.partition(":")[0])
    found = load_env_creator(name)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError(
            f"env: '{env_id}' is unknown here, and what is kept of it names '{name[:200]}', which is no "
            f"{kind.__name__} class"
        )
