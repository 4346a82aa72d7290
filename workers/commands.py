"""What can be done with a trained policy: evaluate it, and watch it play."""

import importlib.util
import os
import sys
from typing import Any

import gymnasium
import numpy as np

from a3c.checkpoint import Checkpoint, load_checkpoint
from a3c.config import CheckpointError, ConfigError
from a3c.environments import EnvironmentSpec, describe
from a3c.evaluation import evaluate
from a3c.policy import Policy


def evaluate_checkpoint(path: str, episodes: int, seed: int) -> dict[str, Any]:
    """Greedy episodes of a run directory's or file's policy: the statistics of their returns, as plain data."""
    checkpoint, environment = _load(path)
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


def play_checkpoint(path: str, episodes: int, seed: int, render: str, greedy: bool) -> None:
    """Play episodes with a learned policy, in a window or as text; print each one's return."""
    checkpoint, environment = _load(path)
    policy, rng = Policy(checkpoint.model), np.random.default_rng(seed)
    one = _open(environment, _window_wanted(render))
    try:
        for episode in range(episodes):
            episode_return, length, terminated = _play(one, policy, seed + episode, greedy, rng)
            end = "terminated" if terminated else "reached the time limit"
            print(f"episode {episode + 1}: return {episode_return:g}, {length} steps, {end}", flush=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"render: {error}") from error
    finally:
        one.close()


def _play(
    environment: gymnasium.Env[Any, Any], policy: Policy, seed: int, greedy: bool, rng: np.random.Generator
) -> tuple[float, int, bool]:
    """One episode: its return, its length, and whether it terminated rather than being cut."""
    start = int(environment.action_space.start)  # type: ignore[attr-defined]
    observation, _ = environment.reset(seed=seed)
    episode_return, length, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        action = policy(observation[None], greedy=greedy, rng=rng)[0]
        observation, reward, terminated, truncated, _ = environment.step(int(action) + start)
        episode_return += float(reward)
        length += 1
        if environment.render_mode == "ansi":
            print(environment.render())
    return episode_return, length, terminated


def _load(path: str) -> tuple[Checkpoint, EnvironmentSpec]:
    checkpoint = load_checkpoint(path)
    for line in checkpoint.skipped:
        print(f"run_a3c.py: skipped a damaged checkpoint: {line}", file=sys.stderr)
    environment = describe(checkpoint.env_id, checkpoint.max_episode_steps)
    model = checkpoint.model
    if (environment.observation_size, environment.action_count) != (model.observation_size, model.action_count):
        raise CheckpointError(f"{checkpoint.path}: its network does not fit the installed {environment.env_id}")
    return checkpoint, environment


def _window_wanted(render: str) -> bool:
    drivers = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    screen = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in drivers)
    if render == "human" and not screen:
        raise ConfigError("render: there is no screen here to open a window on; use --render text")
    return render == "human" or (render == "auto" and screen and importlib.util.find_spec("pygame") is not None)


def _open(environment: EnvironmentSpec, window: bool) -> gymnasium.Env[Any, Any]:
    plain = environment.make_one()
    modes = plain.metadata.get("render_modes", [])
    plain.close()
    if window and "human" not in modes:
        raise ConfigError(f"render: {environment.env_id} has no window to show; use --render text")
    return environment.make_one("human" if window else "ansi" if "ansi" in modes else None)
