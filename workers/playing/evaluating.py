"""A trained policy, loaded and evaluated; `workers.playing.play` lets it be watched."""

import json
import math
import sys
from typing import Any

import numpy as np

from a3c.checkpoint import Checkpoint, load_checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec, describe
from a3c.evaluation import evaluate
from a3c.policy import Policy
from a3c.registry import UnknownError
from workers.processes.preflight import environment_output


def evaluate_checkpoint(
    path: str, episodes: int, seed: int, env: str | None = None, environments_at_once: int | None = None
) -> dict[str, Any]:
    """Greedy episodes of a run directory's or file's policy: the statistics of their returns, as plain data.

    Args:
        env: the id by which the environment is found; default: the checkpoint's own.
        environments_at_once: the most that may be open; default: as many as are fastest.
    """
    with environment_output():
        checkpoint, environment = load(path, env)
        result = evaluate(
            Policy(checkpoint.model).logits, environment, episodes, seed, environments_at_once=environments_at_once
        )
    assert result is not None  # nobody cancels it
    if spoilt := int(np.count_nonzero(~np.isfinite(result.returns))):
        _warn(f"the returns of {spoilt} of {episodes} episodes are not finite; check the environment's rewards")
    return {
        "env_id": environment.env_id,
        "checkpoint": str(checkpoint.path),
        "episodes": episodes,
        "seed": seed,
        **result.statistics(),
        "mean_length": float(result.lengths.mean()),
        "target_return": checkpoint.manifest.get("target_return"),
    }


def as_json(result: dict[str, Any]) -> str:
    """A result as one JSON object; JSON has no numbers that are not finite, so these are null."""
    spoilt = {name: None for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **spoilt}, allow_nan=False)


def load(path: str, env: str | None = None) -> tuple[Checkpoint, EnvironmentSpec]:
    """The checkpoint of a run directory or file, and the environment that it fits; says what was damaged on the way.

    Args:
        env: the id by which the environment is found; default: the checkpoint's own.
    Raises:
        CheckpointError: there is none that is whole, or it does not fit its environment.
        ConfigError: its environment cannot be found or made.
    """
    checkpoint = load_checkpoint(path)
    for line in checkpoint.skipped:
        print(f"run_a3c.py: skipped a damaged checkpoint: {line}", file=sys.stderr)
    environment, model = _environment(checkpoint, env), checkpoint.model
    if (environment.observation_size, environment.action_count) != (model.observation_size, model.action_count):
        raise CheckpointError(f"{checkpoint.path}: its network does not fit the installed {environment.env_id}")
    model.action_start = environment.action_start  # which old checkpoints do not tell
    if checkpoint.manifest["updates"] == 0:
        _warn(f"{checkpoint.path} is an untrained policy, of 0 updates")
    return checkpoint, environment


def _environment(checkpoint: Checkpoint, env: str | None) -> EnvironmentSpec:
    """The environment that a checkpoint's policy is for."""
    try:
        with environment_output():
            if env is not None:
                return describe(env, checkpoint.max_episode_steps, step=False)
            return describe(checkpoint.env_id, checkpoint.max_episode_steps, checkpoint.env_spec, step=False)
    except UnknownError as error:
        name = checkpoint.env_id.rpartition(":")[-1]
        raise ConfigError(f"{error}; name the module that registers it: --env module:{name}") from None


def _warn(line: str) -> None:
    print(f"run_a3c.py: warning: {line}", file=sys.stderr)
