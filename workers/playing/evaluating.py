"""A trained policy, loaded with the environment that it fits, and evaluated."""

import json
import math
import os
import sys
from functools import partial
from typing import Any

import numpy as np

from a3c.actors import Policy
from a3c.checkpoint import Checkpoint, load_checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec, describe
from a3c.evaluation import evaluate
from a3c.lookup import UnknownError
from workers.processes.preflight import environment_output


def evaluate_checkpoint(
    path: str | os.PathLike[str], episodes: int, seed: int, env: str | None = None, greedy: bool = True
) -> dict[str, Any]:
    """Statistics of the returns of episodes, played greedily or with sampled actions; the rest as in `load`."""
    with environment_output():
        checkpoint, environment = load(path, env)
        policy = Policy(checkpoint.model)
        act = partial(policy.actions, greedy=greedy, rng=np.random.default_rng(seed))
        result = evaluate(act, environment, episodes, seed, restart=policy.restart)
    assert result is not None  # nobody cancels it
    if spoilt := int(np.count_nonzero(~np.isfinite(result.returns))):
        _warn(f"the returns of {spoilt} of {episodes} episodes are not finite; check the environment's rewards")
    return {
        "env_id": environment.env_id,
        "checkpoint": str(checkpoint.path),
        "episodes": episodes,
        "seed": seed,
        "actions": "greedy" if greedy else "sampled",
        **result.statistics(),
        "mean_length": float(result.lengths.mean()),
        "target_return": checkpoint.manifest.get("target_return"),
    }


def as_json(result: dict[str, Any]) -> str:
    """A result as one JSON object; JSON has no numbers that are not finite, so these are null."""
    spoilt = {name: None for name, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **spoilt}, allow_nan=False)


def as_text(result: dict[str, Any]) -> str:
    returns = "{env_id}: {mean:.1f} +- {std:.1f} (min {min:.0f}, max {max:.0f}) over {episodes} {actions} episodes"
    return (returns + ", seed {seed}\ncheckpoint {checkpoint}").format(**result)


def load(path: str | os.PathLike[str], env: str | None = None) -> tuple[Checkpoint, EnvironmentSpec]:
    """The checkpoint of a run directory or file, and the environment that it fits; damaged ones are named on stderr.

    Args:
        env: the id by which the environment is found; default: the checkpoint's own.
    Raises:
        CheckpointError: there is none that is whole, or it does not fit its environment.
        ConfigError: its environment cannot be found or made.
    """
    checkpoint = load_checkpoint(path)
    for line in checkpoint.skipped:
        print(f"run_a3c.py: skipped a damaged checkpoint: {line}", file=sys.stderr)
    model = checkpoint.model
    try:
        with environment_output():
            kept = checkpoint.env_spec if env is None else None
            typed: Any = {name: tuple(checkpoint.manifest.get(name) or ()) for name in ("env_kwargs", "wrappers")}
            environment = describe(env or checkpoint.env_id, checkpoint.max_episode_steps, kept, step=False, **typed)
    except UnknownError as error:
        name = checkpoint.env_id.rpartition(":")[-1]
        raise ConfigError(f"{error}; name the module that registers it: --env module:{name}") from None
    network = {**checkpoint.manifest["network"], "action_start": getattr(environment.head, "start", 0)}
    if different := environment.differences({**environment.description(), **network}):
        line = f"{checkpoint.path}: its network does not fit the installed {environment.env_id}"
        raise CheckpointError(f"{line}: {'; '.join(different)}")
    if model.value_head is not None:
        model.head = environment.head  # whose start old checkpoints lack
    if checkpoint.manifest["updates"] == 0:
        _warn(f"{checkpoint.path} is an untrained policy, of 0 updates")
    return checkpoint, environment


def _warn(line: str) -> None:
    print(f"run_a3c.py: warning: {line}", file=sys.stderr)
