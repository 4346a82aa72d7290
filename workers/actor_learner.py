"""The actor-learner: the loop that is the whole algorithm."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a3c.closed_form import ClosedForm
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.gradients import RolloutStatistics, autograd_gradient, clip_by_global_norm, closed_form_gradient
from a3c.networks import build
from a3c.rollouts import Collector
from a3c.schedules import annealed_learning_rate
from shared.board import ROW, RUN, STALENESS_BINS, Board
from shared.parameters import bind, flat_size
from shared.store import SharedStore
from workers import border


def main(
    worker_index: int, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, log: Path
) -> None:
    """Process target: act, compute gradients and push them until the budget is spent or a stop is requested."""
    border.run(log, lambda: learn(worker_index, config, environment, store, board))


def learn(worker_index: int, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board) -> None:
    """Algorithm S3 of Mnih et al. 2016, one actor-learner."""
    model = build(config, environment)
    parameters, gradient = torch.zeros(flat_size(model)), torch.zeros(flat_size(model))
    bind(model, parameters, gradient)
    backward = {"closed-form": closed_form_gradient, "autograd": autograd_gradient}[config.network.gradients]
    compute_gradient = backward(model, config.loss)
    policy_logits = ClosedForm(model).policy_logits
    rng = np.random.default_rng([config.seed, worker_index])
    environments = environment.make(config.envs_per_worker)
    collector = Collector(environments, config.n_steps, environment.action_count, rng)
    row = WorkerRow(collector)
    board.publish(worker_index, row.values)
    now = time.perf_counter
    while board.requested() == RUN and (env_steps := board.env_steps()) < config.max_env_steps:
        learning_rate = annealed_learning_rate(config, env_steps)
        started = now()
        pulled = store.pull(parameters)
        collecting = now()
        rollout = collector.collect(policy_logits)
        learning = now()
        statistics = compute_gradient(rollout)
        norm = clip_by_global_norm(gradient.numpy(), config.optimizer.max_grad_norm)
        pushing = now()
        staleness = store.push(worker_index, gradient, learning_rate, pulled)
        row.add(statistics, norm, staleness, learning_rate)
        row.spend(pull=collecting - started, backward=pushing - learning, push=now() - pushing)
        board.publish(worker_index, row.values)
    environments.close()


class WorkerRow:
    """A worker's running totals, kept to itself until they are published."""

    def __init__(self, collector: Collector):
        self.values = np.zeros((), ROW)
        self.values["mean_return"] = np.nan
        self.values["started"] = time.monotonic()
        self._collector = collector

    def add(self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float) -> None:
        """Count one update and the episodes that ended on the way to it."""
        row, collector = self.values, self._collector
        row["env_steps"] = collector.env_steps
        row["updates"] += 1
        if collector.episodes != row["episodes"]:
            row["episodes"] = collector.episodes
            row["return_sum"] = collector.return_sum
            row["mean_return"] = sum(collector.recent_returns) / len(collector.recent_returns)
        for name, value in zip(statistics.terms._fields, statistics.terms, strict=True):
            row[name] += value
        row["gradient_norm"] += norm
        row["learning_rate"] = learning_rate
        row["target_sum"] += statistics.return_sum
        row["target_square_sum"] += statistics.return_square_sum
        row["error_sum"] += statistics.error_sum
        row["error_square_sum"] += statistics.error_square_sum
        row["staleness_max"] = max(row["staleness_max"], staleness)
        row["staleness_counts"][min(staleness, STALENESS_BINS - 1)] += 1

    def spend(self, **seconds: Any) -> None:
        """Add to the time spent in each phase; acting's two phases are timed by the collector."""
        row = self.values
        for phase, spent in seconds.items():
            row[f"{phase}_seconds"] += spent
        row["env_seconds"] = self._collector.env_seconds
        row["forward_seconds"] = self._collector.forward_seconds
        row["heartbeat"] = time.monotonic()
