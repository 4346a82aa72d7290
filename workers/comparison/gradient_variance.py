"""How much the policy gradient of one episode varies, arm by arm, at equal parameters and on equal episodes."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from a3c.autograd import forward
from a3c.config import BOOTSTRAPPED, ON_POLICY, Config
from a3c.environments import EnvironmentSpec
from a3c.learners import learner_for, memory_for, rollout_steps
from a3c.networks import ActorCritic, bind, build, flat_zeros
from a3c.objectives import objective_for
from a3c.rollouts import STEPS, Collector, Rollout, Stopwatch
from shared.scoreboard import Scoreboard
from workers.actor_learner import learn
from workers.comparison.results import ArmResult, GradientVariance, Interval
from workers.comparison.statistics import TAIL
from workers.comparison.study import Arm
from workers.link import SharedMemoryLink
from workers.training import build_store

EPISODES, RESAMPLES, SEED = 400, 2000, 0
SHARE = 0.5  # of the env steps that the snapshot's arm takes to the target: half-way there, or of its budget
FACTORS = ("objective", "gae_lambda", "baseline", "entropy_coef", "normalize_advantages", "gamma", "n_steps")
Array = NDArray[np.float64]


def is_of_interest(factors: Any, arms: Sequence[Arm]) -> bool:
    """Whether arms of a study differ in what makes the policy gradient."""
    return bool(set(factors) & set(FACTORS)) and sum(map(is_measured, arms)) > 1


def is_measured(arm: Arm) -> bool:
    """Whether an arm has a policy gradient that the others' can be held against; a preconditioned one has not."""
    return arm.config.loss.objective in ON_POLICY and arm.config.loss.objective != "natural"


def measure(
    arms: Sequence[Arm], environment: EnvironmentSpec, results: Sequence[ArmResult], episodes: int = EPISODES
) -> dict[str, GradientVariance]:
    """The variance of each arm's gradient, by its name.

    One snapshot is trained, of the first arm with a bootstrapped critic. It plays `episodes` whole episodes; of each,
    every arm makes its own advantages, in its own rollouts of n_steps, and from these the gradient of the policy loss
    and the entropy bonus by the actor's parameters: the sum over the episode's steps, over the mean length of all. So
    all arms estimate a gradient at the same parameters from the same data, and only the estimator differs.
    """
    measured = [arm for arm in arms if is_measured(arm)]
    chosen = next((arm for arm in measured if arm.config.loss.objective in BOOTSTRAPPED), measured[0])
    median = next(result for result in results if result.name == chosen.name).env_steps.median.value
    budget = chosen.config.max_env_steps
    halfway = max(int(SHARE * min(median, budget)), 1)  # the median is infinite where most runs never got there
    model = snapshot(chosen.config, environment, halfway)
    played, length = _played(model, chosen.config, environment, episodes)
    gradients = {
        arm.name: np.array([_gradient(model, rollout, arm.config) for rollout in played]) / length for arm in measured
    }
    rng = np.random.default_rng(SEED)
    weights = rng.multinomial(episodes, np.full(episodes, 1 / episodes), RESAMPLES) / episodes
    totals = {name: _variances(rows, weights) for name, rows in gradients.items()}
    first = totals[measured[0].name]
    return {
        name: GradientVariance(
            variance=_interval(total),
            ratio=_interval(total / first),
            squared_mean=float(np.square(gradients[name].mean(0)).sum()),
            episodes=episodes,
            env_steps=int(length * episodes),
        )
        for name, total in totals.items()
    }


def snapshot(config: Config, environment: EnvironmentSpec, env_steps: int) -> ActorCritic:
    """A network after so many steps of one worker, in this process; the same for equal arguments."""
    evaluation = replace(config.evaluation, eval_episodes=0)
    config = replace(config, workers=1, mode="async", max_env_steps=env_steps, log_interval=0, evaluation=evaluation)
    scoreboard = Scoreboard(1)
    store = build_store(config, environment, scoreboard)
    learn(0, config, environment, SharedMemoryLink(0, store, scoreboard))
    model = build(config, environment)
    vector = flat_zeros(model)
    bind(model, vector)
    vector.copy_(store.snapshot().parameters)
    return model


def _played(
    model: ActorCritic, config: Config, environment: EnvironmentSpec, episodes: int
) -> tuple[list[Rollout], float]:
    """Whole episodes of the snapshot's policy, and their mean length."""
    whole = replace(config, envs_per_worker=1, loss=replace(config.loss, objective="reinforce"))
    steps, rng = rollout_steps(whole, environment.max_episode_steps), np.random.default_rng(SEED)
    learner = learner_for(model, whole, Stopwatch(), rng, environment.max_episode_steps)
    environments = environment.make(1)
    memory = memory_for(learner, steps, 1, environment.observation)
    collector = Collector(environments, steps, rng, head=model.head, whole_episodes=True, memory=memory)
    played = []
    for _ in range(episodes):
        rollout = collector.collect(learner.act)
        played.append(copy.deepcopy(rollout))
    environments.close()
    return played, collector.env_steps / episodes


def _gradient(model: ActorCritic, rollout: Rollout, config: Config) -> NDArray[np.float32]:
    """The sum over an episode's steps of an arm's gradient by the actor's parameters, [P]."""
    objective, n_steps = objective_for(config), len(rollout.rewards)
    window = n_steps if objective.whole_episodes else config.n_steps
    parameters, values = forward(model, rollout)
    known, advantages = values.detach().numpy(), np.empty_like(rollout.rewards)
    for start in range(0, n_steps, window):
        part = _part(rollout, start, min(start + window, n_steps))
        targets = objective.targets(part, known[start : start + len(part.rewards) + 1], model.unit)
        advantages[start : start + window] = targets.advantages
    actions = torch.from_numpy(rollout.flat_actions)
    log_prob, entropy = model.head.log_prob_entropy(parameters[:-1].flatten(0, 1), actions)
    bonus = config.loss.entropy_coef * entropy
    loss = -(log_prob * torch.from_numpy(advantages.reshape(-1)) + bonus).sum()
    actor = [p for name, p in model.named_parameters() if p.requires_grad and not name.startswith(("value", "critic"))]
    parts = torch.autograd.grad(loss, actor)
    flat: NDArray[np.float32] = torch.cat([part.reshape(-1) for part in parts]).numpy()
    return flat


def _part(rollout: Rollout, start: int, end: int) -> Rollout:
    """Some of its steps, as views."""
    rest = dataclasses.replace(rollout, observations=rollout.observations[start:], starts=None, state=None)
    steps = {name: getattr(rollout, name)[start:] for name in STEPS}
    return dataclasses.replace(rest, **steps).first(end - start)


def _variances(rows: NDArray[Any], weights: Array) -> Array:
    """The trace of the covariance of rows [E, P]: of all of them, then of each resample [R, E], [1 + R]."""
    rows = rows.astype(np.float64)
    products = rows @ rows.T
    everyone = np.full((1, len(rows)), 1 / len(rows))
    weights = np.concatenate((everyone, weights))
    means = np.einsum("re,ef,rf->r", weights, products, weights, optimize=True)
    found: Array = (weights @ np.diag(products) - means) * len(rows) / (len(rows) - 1)
    return found


def _interval(estimates: Array) -> Interval:
    """The first of the estimates, between the quantiles of those of the resamples."""
    low, high = np.quantile(estimates[1:], (TAIL, 1 - TAIL))
    return Interval(float(estimates[0]), float(low), float(high))
