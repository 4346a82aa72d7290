"""stable-baselines3's A2C or PPO on an environment until it is solved; writes what that took as JSON.

Runs in the virtual environment that `benchmarks.peer_environment` makes. The training is the library's `learn` with the
settings of its zoo (rl-baselines3-zoo, hyperparams/a2c.yml and ppo.yml) in zoo.json, the judgement its
`evaluate_policy`.

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
from stable_baselines3.common.vec_env import VecNormalize  # type: ignore[import-not-found, unused-ignore]

ZOO = Path(__file__).with_name("zoo.json")
FIRST_EPISODES, EPISODES = 5, 100
EVERY_STEPS = 1000  # env steps between two looks, at least
RECENT = 10  # training episodes, whose mean return has to be half as good as the target before a first evaluation
PROMISING = {"CartPole-v1": 100.0}  # what has been asked instead


def main() -> None:
    """Train until solved or the budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=("a2c", "ppo"), required=True)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--target", type=float, default=475.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-env-steps", type=int, help="default: the zoo's")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = json.loads(ZOO.read_text())[options.algorithm][options.env]
    budget = settings.pop("n_timesteps")
    model = build(options.algorithm, options.env, settings, options.seed)
    judge = Judge(model, options.env, options.target, options.seed)
    model.learn(options.max_env_steps or budget, callback=judge)
    options.output.write_text(json.dumps(judge.result()))


def build(algorithm: str, env: str, settings: dict[str, Any], seed: int) -> Any:
    """The algorithm as its zoo sets it up; what is not named is the library's default."""
    environments = make_vec_env(env, n_envs=settings.pop("n_envs"), seed=seed)
    if settings.pop("normalize", False):
        environments = VecNormalize(environments, gamma=settings.get("gamma", 0.99))
    chosen = {name: falling(value) if isinstance(value, str) else value for name, value in settings.items()}
    return {"a2c": A2C, "ppo": PPO}[algorithm]("MlpPolicy", environments, seed=seed, device="cpu", **chosen)


def falling(written: str) -> Any:
    """lin_0.001: from there to 0 over the budget."""
    first = float(written.removeprefix("lin_"))
    return lambda remaining: first * remaining


class Judge:
    """The callback of `learn`, called after every step of all environments: says when the policy solves."""

    def __init__(self, model: Any, env: str, target: float, seed: int):
        self._model, self._target = model, target
        self._promise = PROMISING.get(env, target / 2 if target > 0 else 2 * target)
        self._first = self._like_training(make_vec_env(env, n_envs=FIRST_EPISODES, seed=10_000 + 2 * seed))
        self._all = self._like_training(make_vec_env(env, n_envs=EPISODES, seed=20_000 + 200 * seed))
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
        return len(recent) == RECENT and float(np.mean(recent)) >= self._promise

    def _solves(self) -> bool:
        started = time.perf_counter()
        solves = self._reaches(self._first, FIRST_EPISODES) and self._reaches(self._all, EPISODES)
        self._evaluating += time.perf_counter() - started
        return solves

    def _like_training(self, environments: Any) -> Any:
        """With the statistics of the training's observations, where it has any, and rewards as they are."""
        normalized = self._model.get_vec_normalize_env()
        if normalized is None:
            return environments
        environments = VecNormalize(environments, training=False, norm_reward=False)
        environments.obs_rms = normalized.obs_rms  # the same object
        return environments

    def _reaches(self, environments: Any, episodes: int) -> bool:
        self._evaluations += 1
        mean, _ = evaluate_policy(self._model, environments, n_eval_episodes=episodes, deterministic=True)
        return float(mean) >= self._target

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
