"""What a run directory says of its run. Standard library alone: a mistake is answered before torch is loaded."""

import json
from pathlib import Path
from typing import Any

from a3c.config import CheckpointError, Config, ConfigError
from a3c.files import read_file

SIZE_LIMIT = 2**24  # bytes


def stored_config(run_dir: Path) -> tuple[Config, dict[str, Any]]:
    """The configuration of a run, and its config.json as it is.

    Raises:
        CheckpointError: there is none, or it cannot be understood.
    """
    path = run_dir / "config.json"
    try:
        content = json.loads(read_file(path, SIZE_LIMIT))
        return Config.from_options(content["options"]), content
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; there is no run to resume") from error
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be understood: {error}") from error


def changed(config: Config, max_env_steps: int | None, workers: int | None) -> Config:
    """The configuration with what the user wants otherwise.

    Raises:
        ConfigError: that cannot be changed.
    """
    if workers is not None and workers != config.workers and config.mode == "sync":
        raise ConfigError(f"workers: a sync run goes on with as many as it had, {config.workers}: the average of their "
                          "gradients is what its updates are made of")
    wanted = {"max_env_steps": max_env_steps, "workers": workers}
    return Config.from_options(
        config.to_options() | {name: value for name, value in wanted.items() if value is not None}
    )


def nothing_to_do(run_dir: Path, config: Config) -> str | None:
    """Why a run has no need of going on, or None where it has."""
    summary, best = _read(run_dir / "summary.json"), _read(run_dir / "checkpoints" / "best.json")
    if summary.get("status") == "solved" or _is_solution(best):
        return "is solved"
    spent = summary.get("env_steps") if summary.get("status") == "budget_exhausted" else None
    if isinstance(spent, int) and spent >= config.max_env_steps:
        return f"has spent its budget of {config.max_env_steps:,} env steps; give it more with --max-env-steps"
    return None


def _is_solution(best: dict[str, Any]) -> bool:
    """Whether a best checkpoint is the solution, of a run that was killed before it could write its summary."""
    try:
        evaluation = best["evaluation"]
        return bool(evaluation["verification"] and evaluation["mean"] >= best["target_return"])
    except (KeyError, TypeError):
        return False


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none, as in a run that was killed."""
    try:
        content = json.loads(read_file(path, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
