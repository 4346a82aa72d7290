"""An environment in the command's own process: whether a run's processes can make it too, and where its output goes."""

import ast
import contextlib
import ctypes
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a3c.config import VALUE_BASED, Config, ConfigError
from workers.extras import require

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from a3c.environments import EnvironmentSpec


def describe_environment(config: Config, stored: Any = None) -> "EnvironmentSpec":
    """The run's environment, known to be one that other processes can make and train on; raises ConfigError.

    `stored` is that of config.json where a run is resumed, for an id that a user's program registered.
    """
    from a3c.environments import describe  # imports gymnasium
    from a3c.lookup import find

    kept = stored.get("env_spec") if isinstance(stored, dict) else None
    with environment_output() as stack:
        stack.callback(setattr, sys, "stdin", sys.stdin)
        sys.stdin = stack.enter_context(open(os.devnull))  # as in a worker: a debugger ends there instead of waiting
        typed: Any = {"env_kwargs": config.env_kwargs, "wrappers": config.wrappers}
        if not config.is_default_environment:
            check_environment(config.env, find(config.env, kept, **typed))
        found = describe(config.env, config.max_episode_steps, kept, **typed)
        if config.loss.objective in VALUE_BASED:
            from a3c.action_values import action_values_of

            try:
                action_values_of(found.head)
            except ValueError as error:
                raise ConfigError(f"objective: {config.loss.objective} {error}") from error
        if config.vector == "envpool":
            require("vector", "envpool", ("envpool",))
            from a3c.pool import pooled

            return pooled(found, config.envs_per_worker)
        return found


@contextlib.contextmanager
def environment_output() -> Iterator[contextlib.ExitStack]:
    """Send what is written to standard output, by Python or by C code, to standard error: the output is the command's.

    The current folder, into which some simulators change for their files, is put back at the end.
    """

    def put_back(descriptor: int) -> None:
        _flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it has been deleted
            stack.enter_context(contextlib.chdir(os.getcwd()))
        with contextlib.suppress(OSError):  # standard output or standard error is closed
            stack.callback(put_back, os.dup(1))
            _flush()
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield stack


def _flush() -> None:
    """Empty the buffers of Python and of C: what they hold belongs to where descriptor 1 leads now."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)


def check_environment(env_id: str, spec: "EnvSpec") -> None:
    """Check that other processes can make the environment of a spec: that they can unpickle and import it."""
    from a3c.environments import needs_main

    cannot = f"env: '{env_id}' cannot be handed to the run's processes"
    parts: dict[str, Any] = {"entry point": spec.entry_point, "vector entry point": spec.vector_entry_point}
    parts |= {f"argument '{name}'": value for name, value in spec.kwargs.items()}
    parts |= {f"wrapper {wrapper.name}": wrapper for wrapper in spec.additional_wrappers}
    for name, part in {**parts, "spec": spec}.items():
        try:
            pickle.loads(pickle.dumps(part))
        except Exception as error:  # whatever a third party's __reduce__ raises
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(
                f"{cannot}: its {name}: {why}; register a class of a module, with arguments that can be pickled"
            ) from error
    for point in filter(None, (spec.entry_point, spec.vector_entry_point)):
        name = point.partition(":")[0] if isinstance(point, str) else getattr(point, "__module__", None) or "__main__"
        module = name.partition(".")[0]
        if module != "__main__" and not _is_importable(module):
            raise ConfigError(f"{cannot}: they cannot import its module '{module}'; put it into a file on sys.path")
    if needs_main(spec):
        _check_main(cannot)


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
    path = Path(getattr(main, "__file__", None) or "")
    if not path.is_file():  # python -c, a pipe, a notebook
        raise ConfigError(
            f"{cannot}: its code is only in this session; put it into a module, and register or name it from there"
        )
    frames = sys._current_frames()
    # Where the script itself is now, in this thread and in the main one; nowhere after its end, as with python -i.
    for thread in {threading.get_ident(), threading.main_thread().ident}:
        for frame, line in traceback.walk_stack(frames.get(thread or 0)):
            code, inside = frame.f_code, frame.f_globals is vars(main)
            is_script = code.co_name == "<module>" and Path(code.co_filename).name == path.name
            if inside and is_script and not _is_guarded(path, line):
                raise ConfigError(
                    f"{cannot}: they import {path.name}, whose line {line} would begin a run in each; "
                    'put it under: if __name__ == "__main__":'
                )


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
