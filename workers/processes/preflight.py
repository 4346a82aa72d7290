"""An environment in the command's own process: whether a run's processes can make it too, and where its output goes."""

import ast
import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from a3c.config import Config, ConfigError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from a3c.environments import EnvironmentSpec


def describe_environment(config: Config, stored: Any = None) -> "EnvironmentSpec":
    """The run's environment, known to be one that can be trained on, in other processes.

    Args:
        stored: the environment of config.json where a run is resumed, for an id that a user's program registered.
    Raises:
        ConfigError: it is unknown, not supported, has no time limit, cannot be made by other processes, or fails when
            it is made, reset or stepped.
    """
    from a3c.environments import describe  # imports gymnasium
    from a3c.lookup import find

    kept = stored.get("env_spec") if isinstance(stored, dict) else None
    with environment_output(), no_input():
        if config.env != Config().env:
            check_environment(config.env, find(config.env, kept))
        environment = describe(config.env, config.max_episode_steps, kept)
    if environment.max_episode_steps is None:
        raise ConfigError(
            f"env: '{config.env}' has no time limit, so that a greedy episode may never end; "
            "give one with --max-episode-steps"
        )
    return environment


# -- output -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def environment_output() -> Iterator[None]:
    """Send what is written to standard output, by Python or by C code, to standard error: the output is the command's.

    The current folder, into which some simulators change for their files, is put back at the end.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it has been deleted
            stack.callback(_return_to, os.getcwd())
        with contextlib.suppress(OSError):  # standard output or standard error is closed
            kept = os.dup(1)
            stack.callback(_put_back, kept)
            _flush()
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def no_input() -> Iterator[None]:
    """Nothing is typed meanwhile, as in a worker: a debugger ends there instead of waiting."""
    before = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = before


def _return_to(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(folder)


def _put_back(kept: int) -> None:
    _flush()
    os.dup2(kept, 1)
    os.close(kept)


def _flush() -> None:
    """Empty the buffers of Python and of C: what they hold belongs to where descriptor 1 leads now."""
    import ctypes

    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stdout.flush()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no such library on this platform
        ctypes.CDLL(None).fflush(None)


# -- other processes --------------------------------------------------------------------------------------------------


def check_environment(env_id: str, spec: "EnvSpec") -> None:
    """Check that other processes can make the environment of a spec.

    Raises:
        ConfigError: it cannot be pickled, or it is of a script that they cannot import.
    """
    from a3c.environments import needs_main

    cannot = f"env: '{env_id}' cannot be handed to the run's processes"
    if (what := _unpicklable(spec)) is not None:
        raise ConfigError(f"{cannot}: {what}; register a class of a module, with arguments that can be pickled")
    for point in filter(None, (spec.entry_point, spec.vector_entry_point)):
        name = point.partition(":")[0] if isinstance(point, str) else getattr(point, "__module__", None) or "__main__"
        module = name.partition(".")[0]
        if module != "__main__" and not _is_importable(module):
            raise ConfigError(f"{cannot}: they cannot import its module '{module}'; put it into a file on sys.path")
    if needs_main(spec):
        _check_main(cannot)


def _unpicklable(spec: "EnvSpec") -> str | None:
    """The first part of a spec that does not get through a pickle, and why; None where all do."""
    parts: dict[str, Any] = {"entry point": spec.entry_point, "vector entry point": spec.vector_entry_point}
    parts |= {f"argument '{name}'": value for name, value in spec.kwargs.items()}
    parts |= {f"wrapper {wrapper.name}": wrapper for wrapper in spec.additional_wrappers}
    for name, part in {**parts, "spec": spec}.items():
        try:
            pickle.loads(pickle.dumps(part))
        except Exception as error:  # whatever a third party's __reduce__ raises
            return f"its {name}: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return None


def _is_importable(module: str) -> bool:
    """Whether a fresh process finds a top-level module, whatever this one holds under its name."""
    for finder in sys.meta_path:
        with contextlib.suppress(AttributeError, ImportError, ValueError):  # an old finder, or one that knows better
            if finder.find_spec(module, None) is not None:
                return True
    return False


def _check_main(cannot: str) -> None:
    """Check that the user's own script can be imported by other processes without its starting a run there."""
    main: Any = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or not Path(path).is_file():  # python -c, a pipe, a notebook
        raise ConfigError(
            f"{cannot}: its code is only in this session; put it into a module, and register or name it from there"
        )
    lines = [frame.f_lineno for frame in _main_frames(vars(main), Path(path).name)]
    if lines and not _is_guarded(Path(path), lines[-1]):
        raise ConfigError(
            f"{cannot}: they import {Path(path).name}, whose line {lines[-1]} would begin a run in each; "
            'put it under: if __name__ == "__main__":'
        )


def _main_frames(names: dict[str, Any], file: str) -> Iterator[FrameType]:
    """Where the script itself is now, in this thread and in the main one; nowhere after its end, as with python -i."""
    for thread in {threading.get_ident(), threading.main_thread().ident}:
        frame = sys._current_frames().get(thread or 0)
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and frame.f_globals is names and Path(code.co_filename).name == file:
                yield frame
            frame = frame.f_back


def _is_guarded(script: Path, line: int) -> bool:
    """Whether a line of a script is under a condition that has __name__ == "__main__" in it."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it has changed meanwhile: nothing is known
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0):
            test = ast.unparse(node.test)
            if "__name__ == '__main__'" in test or "'__main__' == __name__" in test:
                return True
    return False
