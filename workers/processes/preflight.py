"""Whether a run's processes can get what they need from this one: told before any of them is started."""

import ast
import multiprocessing
import pickle
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from a3c.config import ConfigError

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec


def check_process() -> None:
    """Whether this process may start others.

    Raises:
        ConfigError: it is a daemonic one.
    """
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "workers: this process may not start any: it is a daemonic one, as those of "
            "multiprocessing.Pool are; use concurrent.futures.ProcessPoolExecutor instead"
        )


def check_environment(env_id: str, spec: "EnvSpec") -> None:
    """Whether other processes can make the environment of a spec.

    Raises:
        ConfigError: it cannot be pickled, or it is of a script that they cannot import.
    """
    from a3c.environments import needs_main

    cannot = f"env: '{env_id}' cannot be handed to the run's processes"
    if (what := _unpicklable(spec)) is not None:
        raise ConfigError(f"{cannot}: {what}; register a class of a module, with arguments that can be pickled")
    for module in _modules(spec):
        if not _is_importable(module):
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


def _modules(spec: "EnvSpec") -> list[str]:
    """The top-level modules that its entry points name."""
    points = (spec.entry_point, spec.vector_entry_point)
    names = [
        point.partition(":")[0] if isinstance(point, str) else getattr(point, "__module__", None)
        for point in points
        if point is not None
    ]
    return [name.partition(".")[0] for name in names if name and name != "__main__"]


def _is_importable(module: str) -> bool:
    """Whether a fresh process finds a top-level module, whatever this one holds under its name."""
    for finder in sys.meta_path:
        try:
            if finder.find_spec(module, None) is not None:
                return True
        except (AttributeError, ImportError, ValueError):  # an old finder, or one that knows better
            continue
    return False


def _check_main(cannot: str) -> None:
    """Whether the user's own script can be imported by others, without its starting another run there."""
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


def _main_frames(names: dict[str, Any], file: str) -> list[FrameType]:
    """Where the script itself is now, in this thread and in the main one; nowhere where one types after its end."""
    frames = []
    for thread in {threading.get_ident(), threading.main_thread().ident}:
        frame = sys._current_frames().get(thread or 0)
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and frame.f_globals is names and Path(code.co_filename).name == file:
                frames.append(frame)
            frame = frame.f_back
    return frames


def _is_guarded(script: Path, line: int) -> bool:
    """Whether a line of a script is one that an import of it does not run."""
    try:
        tree = ast.parse(script.read_bytes())
    except (OSError, SyntaxError, ValueError):  # it has changed meanwhile: nothing is known
        return True
    guards = (node for node in ast.walk(tree) if isinstance(node, ast.If) and _asks_for_main(node.test))
    return any(node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0) for node in guards)


def _asks_for_main(test: ast.expr) -> bool:
    """Whether a condition has __name__ == "__main__" in it."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq):
            sides = {ast.unparse(side) for side in (node.left, *node.comparators)}
            if sides == {"__name__", "'__main__'"}:
                return True
    return False
