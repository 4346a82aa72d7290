"""stable-baselines3's A2C or PPO on CartPole-v1 until it is solved; writes what that took as JSON.

Runs in the virtual environment that `benchmarks.peer_environment` makes. The training is the library's `learn` with the
settings of its zoo (rl-baselines3-zoo, hyperparams/a2c.yml and ppo.yml), the judgement its `evaluate_policy`.

Evaluations are as few and as cheap as a user who knows the environment would make them: none before the training
episodes promise something, at first the five episodes that the library's own EvalCallback plays by default, and the
hundred that count only where those five reach the target. All hundred are played at once. The first hundred that reach
it are the solution; ours has to do so twice, with fresh seeds, and to write the policy to the disk.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, PPO  # type: ignore[import-not-found, unused-ignore]
from stable_baselines3.common.env_util import make_vec_env  # type: ignore[import-not-found, unused-ignore]
from stable_baselines3.common.evaluation import evaluate_policy  # type: ignore[import-not-found, unused-ignore]

ENV, TARGET = "CartPole-v1", 475.0
FIRST_EPISODES, EPISODES = 5, 100
EVERY_STEPS = 1000  # env steps between two looks, at least
RECENT, PROMISING = 10, 100.0  # the mean return of so many training episodes before a first evaluation


def main() -> None:
    """Train until solved or the budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=("a2c", "ppo"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-env-steps", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = build(options.algorithm, options.seed)
    judge = Judge(model, options.seed)
    model.learn(options.max_env_steps, callback=judge)
    options.output.write_text(json.dumps(judge.result()))


def build(algorithm: str, seed: int) -> Any:
    """The algorithm as its zoo sets it up; what is not named is the library's default."""
    environments = make_vec_env(ENV, n_envs=8, seed=seed)
    if algorithm == "a2c":
        return A2C("MlpPolicy", environments, ent_coef=0.0, seed=seed, device="cpu")
    return PPO(
        "MlpPolicy",
        environments,
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda remaining: 0.001 * remaining,
        clip_range=lambda remaining: 0.2 * remaining,
        seed=seed,
        device="cpu",
    )


class Judge:
    """The callback of `learn`, called after every step of all environments: says when the policy solves."""

    def __init__(self, model: Any, seed: int):
        self._model = model
        self._first = make_vec_env(ENV, n_envs=FIRST_EPISODES, seed=10_000 + 2 * seed)
        self._all = make_vec_env(ENV, n_envs=EPISODES, seed=20_000 + 200 * seed)
        self._looked_at, self._evaluating, self._evaluations = 0, 0.0, 0
        self._started = self._ended = 0.0
        self._solved = False

    def __call__(self, _locals: dict[str, Any], _globals: dict[str, Any]) -> bool:
        """Whether to go on. The clock starts with the end of the first step."""
        self._started = self._started or time.perf_counter()
        if self._model.num_timesteps - self._looked_at >= EVERY_STEPS:
            self._looked_at = self._model.num_timesteps
            self._solved = self._promising() and self._solves()
        self._ended = time.perf_counter()
        return not self._solved

    def _promising(self) -> bool:
        recent = [episode["r"] for episode in self._model.ep_info_buffer][-RECENT:]
        return len(recent) == RECENT and float(np.mean(recent)) >= PROMISING

    def _solves(self) -> bool:
        started = time.perf_counter()
        solves = self._reaches(self._first, FIRST_EPISODES) and self._reaches(self._all, EPISODES)
        self._evaluating += time.perf_counter() - started
        return solves

    def _reaches(self, environments: Any, episodes: int) -> bool:
        self._evaluations += 1
        mean, _ = evaluate_policy(self._model, environments, n_eval_episodes=episodes, deterministic=True)
        return float(mean) >= TARGET

    def result(self) -> dict[str, Any]:
        """What it took, from the first step to the solution or the end of the budget."""
        return {
            "solved": self._solved,
            "env_steps": self._model.num_timesteps,
            "solution_seconds": round(self._ended - self._started, 4),
            "evaluation_seconds": round(self._evaluating, 4),
            "evaluations": self._evaluations,
        }


if __name__ == "__main__":
    main()
