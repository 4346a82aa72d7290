"""Processes and what watches them: actor-learners, monitor, supervisor, dashboard."""

from typing import Any

__all__ = ["compare", "resume", "train"]


def __getattr__(name: str) -> Any:
    # Resolved on first use: a child process imports this package without the console, the console without torch.
    if name == "train":
        from workers.session import train

        return train
    if name == "resume":
        from workers.session import resume

        return resume
    if name == "compare":
        from workers.comparison.session import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
