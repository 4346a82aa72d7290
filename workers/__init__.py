"""Processes and what watches them: actor-learners, monitor, supervisor, dashboard."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["compare", "resume", "train"]


def _see_our_packages() -> None:
    """See that the packages beside this one are ours, and not modules that the user has named alike."""
    for name in ("a3c", "shared"):
        spec = find_spec(name)
        place = "nowhere to be found" if spec is None else spec.origin or "a folder without __init__.py"
        if Path(place).resolve() != Path(__file__).resolve().parents[1] / name / "__init__.py":
            raise ImportError(
                f"the package '{name}' of this program is hidden by {place}; rename that, or keep it out "
                "of PYTHONPATH and of your script's folder"
            )


_see_our_packages()


def __getattr__(name: str) -> Any:
    # Resolved on first use: a child process imports this package without the console, the console without torch.
    if name == "train":
        from workers.training import train

        return train
    if name == "resume":
        from workers.training import resume

        return resume
    if name == "compare":
        from workers.comparison.run_study import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
