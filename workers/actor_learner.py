"""The actor-learner: the loop that is the whole algorithm."""

import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from a3c.closed_form import ClosedForm
from a3c.config import Config
from a3c.environments import EnvironmentSpec, SlowEnvironments
from a3c.gradients import RolloutStatistics, autograd_gradient, clip_by_global_norm, closed_form_gradient
from a3c.networks import build
from a3c.rollouts import Collector
from a3c.schedules import annealed_learning_rate
from shared.board import LATEST, RUN, SUMS, Board
from shared.parameters import bind, flat_size
from shared.store import SharedStore
from workers import border
from workers.update_log import UpdateLog

# Workers are many and in no hurry; an evaluation is one process, and a run is over as soon as it says so. Where there
# are more processes than cores this puts the monitor, the console and the user's other programs first.
NICENESS = 10
CPU_INTERVAL = 0.05  # seconds between two looks at the CPU time: the kernel takes its time to answer


def main(
    worker_index: int, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, run_dir: Path
) -> None:
    """Process target: act, compute gradients and push them until the budget is spent or a stop is requested."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    log = run_dir / "logs" / f"worker-{worker_index}.log"
    border.run(log, lambda: learn(worker_index, config, environment, store, board, run_dir / "updates.csv"))


def learn(
    worker_index: int, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, updates: Path
) -> None:
    """Algorithm S3 of Mnih et al. 2016, one actor-learner; worker 0 logs to `updates` where that is asked for."""
    model = build(config, environment)
    parameters, gradient = torch.zeros(flat_size(model)), torch.zeros(flat_size(model))
    bind(model, parameters, gradient)
    backward = {"closed-form": closed_form_gradient, "autograd": autograd_gradient}[config.network.gradients]
    compute_gradient = backward(model, config.loss)
    policy_logits = ClosedForm(model).policy_logits
    rng = np.random.default_rng([config.seed, worker_index])
    environments = environment.make(config.envs_per_worker)
    if config.env_latency_ms:
        environments = SlowEnvironments(environments, config.env_latency_ms)
    collector = Collector(environments, config.n_steps, environment.action_count, rng)
    row = WorkerRow(worker_index, board, collector)
    log = UpdateLog(updates, config.log_interval, store, board) if config.log_interval and worker_index == 0 else None
    now = time.perf_counter
    while board.requested() == RUN:
        started = now()
        pulled = store.pull(parameters)
        if pulled.env_steps >= config.max_env_steps:
            break
        learning_rate = annealed_learning_rate(config, pulled.env_steps)
        collecting = now()
        rollout = collector.collect(policy_logits)
        learning = now()
        statistics = compute_gradient(rollout)
        norm = clip_by_global_norm(gradient.numpy(), config.optimizer.max_grad_norm)
        pushing = now()
        staleness = store.push(worker_index, gradient, learning_rate, collector.env_steps, pulled)
        if staleness is None:
            break
        seconds = (collecting - started, pushing - learning, now() - pushing)
        row.publish(statistics, norm, staleness, learning_rate, seconds)
        if log is not None:
            log.write_due()
    environments.close()


class WorkerRow:
    """A worker's row of the board."""

    def __init__(self, worker_index: int, board: Board, collector: Collector):
        self._worker_index, self._board, self._collector = worker_index, board, collector
        row = board.row(worker_index)
        self._sums, self._latest = row[: len(SUMS)], row[len(SUMS) :]
        self._started = time.monotonic()
        self._staleness_max = 0
        self._cpu_seconds, self._cpu_due = time.process_time(), 0.0
        self._episodes, self._mean_return = 0, math.nan
        self._latest[LATEST.index("started")] = self._started

    def publish(self, statistics: RolloutStatistics, norm: float, staleness: int, learning_rate: float,
                seconds: tuple[float, float, float]) -> None:  # fmt: skip
        """Count one update; `seconds` are those of its pull, its backward pass and its push."""
        collector = self._collector
        if collector.episodes != self._episodes:
            self._episodes = collector.episodes
            self._mean_return = sum(collector.recent_returns) / len(collector.recent_returns)
        self._staleness_max = max(self._staleness_max, staleness)
        now = time.monotonic()
        if now >= self._cpu_due:
            self._cpu_seconds, self._cpu_due = time.process_time(), now + CPU_INTERVAL
        policy_loss = statistics.terms.policy_loss
        self._sums += (1, *statistics.terms, norm, policy_loss * policy_loss, *statistics[1:], *seconds)
        self._latest[:] = (
            collector.env_steps,
            collector.episodes,
            collector.return_sum,
            self._mean_return,
            collector.env_seconds,
            collector.forward_seconds,
            self._cpu_seconds,
            learning_rate,
            self._staleness_max,
            self._started,
            now,
        )
        self._board.count_staleness(self._worker_index, staleness)
