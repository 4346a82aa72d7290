"""Processes and what watches them: actor-learners, monitor, supervisor, console."""

import importlib
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["ExitCode", "compare", "resume", "train"]
LAZY = {"train": "workers.training", "resume": "workers.training", "compare": "workers.comparison.run_study"}


class ExitCode(IntEnum):
    """The exit codes a user can rely on; a signal's is 128 plus its number."""

    FINISHED = 0
    USAGE = 2  # or configuration
    WORKER = 3  # or its environment
    CHECKPOINT = 4
    NUMERICS = 5
    DISK = 74
    INTERRUPTED = 130


_home = Path(__file__).resolve().parents[1]
_copied = _home.parent.name == "py_modules_files"  # by Ray, each package into a folder of its own
for _name in ("a3c", "shared"):
    _spec = find_spec(_name)
    _found = "a package that is missing" if _spec is None else _spec.origin or "a folder without __init__.py"
    _path = Path(_found).resolve()
    if _path != _home / _name / "__init__.py" and not (
        _copied and _path.match(f"{_home.parent}/*/{_name}/__init__.py")
    ):
        raise ImportError(
            f"the package '{_name}' of this program is hidden by {_found}; rename that, or keep it out of PYTHONPATH "
            "and of your script's folder"
        )


def __getattr__(name: str) -> Any:
    # Imported on first use: a child process imports this package without the console, the console without torch.
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
