"""A trained policy, loaded and evaluated; `workers.play` lets it be watched."""

import sys
from typing import Any

from a3c.checkpoint import Checkpoint, load_checkpoint
from a3c.config import CheckpointError
from a3c.environments import EnvironmentSpec, describe
from a3c.evaluation import evaluate
from a3c.policy import Policy


def evaluate_checkpoint(path: str, episodes: int, seed: int) -> dict[str, Any]:
    """Greedy episodes of a run directory's or file's policy: the statistics of their returns, as plain data."""
    checkpoint, environment = load(path)
    result = evaluate(Policy(checkpoint.model).logits, environment, episodes, seed)
    assert result is not None  # nobody cancels it
    return {
        "env_id": environment.env_id,
        "checkpoint": str(checkpoint.path),
        "episodes": episodes,
        "seed": seed,
        **result.statistics(),
        "mean_length": float(result.lengths.mean()),
        "target_return": checkpoint.manifest.get("target_return"),
    }


def load(path: str) -> tuple[Checkpoint, EnvironmentSpec]:
    """The checkpoint of a run directory or file, and the environment that it fits; says what was damaged on the way.

    Raises:
        CheckpointError: there is none that is whole, or it does not fit its environment.
        ConfigError: its environment cannot be made.
    """
    checkpoint = load_checkpoint(path)
    for line in checkpoint.skipped:
        print(f"run_a3c.py: skipped a damaged checkpoint: {line}", file=sys.stderr)
    environment = describe(checkpoint.env_id, checkpoint.max_episode_steps)
    model = checkpoint.model
    if (environment.observation_size, environment.action_count) != (model.observation_size, model.action_count):
        raise CheckpointError(f"{checkpoint.path}: its network does not fit the installed {environment.env_id}")
    return checkpoint, environment
