"""The actor-learner: the loop that is the whole algorithm."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from a3c.batches import Environments, SlowEnvironments
from a3c.config import Config
from a3c.environments import EnvironmentSpec
from a3c.gradients import LEARNERS, NonFiniteError, learn_from
from a3c.networks import build
from a3c.rollouts import Collector
from a3c.schedules import annealed_learning_rate
from a3c.stopwatch import Stopwatch
from shared.board import Board
from shared.parameters import bind, flat_size
from shared.store import SharedStore
from workers import border
from workers.place import Place
from workers.update_log import UpdateLog

# Workers are many and in no hurry; an evaluation is one process, and a run is over as soon as it says so. Where there
# are more processes than cores this puts the monitor, the console and the user's other programs first.
NICENESS = 10


def main(worker_index: int, incarnation: int, config: Config, environment: EnvironmentSpec, store: SharedStore,
         board: Board, run_dir: Path) -> None:  # fmt: skip
    """Process target: act, compute gradients and push them until the budget is spent or a stop is requested."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    np.seterr(all="ignore")  # what is not finite is looked for, and refused, before it is learned from
    store.incarnation = incarnation
    log = run_dir / "logs" / f"worker-{worker_index}.log"
    border.run(log, lambda: learn(worker_index, config, environment, store, board, run_dir / "updates.csv"))


def learn(
    worker_index: int, config: Config, environment: EnvironmentSpec, store: SharedStore, board: Board, updates: Path
) -> None:
    """Algorithm S3 of Mnih et al. 2016, one actor-learner; worker 0 logs to `updates` where that is asked for."""
    model = build(config, environment)
    parameters, gradient = torch.zeros(flat_size(model)), torch.zeros(flat_size(model))
    bind(model, parameters, gradient)
    watch = Stopwatch()
    learner = LEARNERS[config.network.gradients](model, config, watch)
    environments = _environments(config, environment)
    rng = _generator(config.seed, worker_index, store.incarnation)
    beat = partial(board.beat, worker_index)
    collector = Collector(environments, config.n_steps, environment.action_count, rng, beat, watch)
    place = Place(worker_index, store, board, collector, watch)
    log = UpdateLog(updates, config.log_interval, store, board) if config.log_interval and worker_index == 0 else None
    while True:
        pulled = store.pull(parameters)
        watch.lap("pull")
        if pulled.stopped or pulled.env_steps >= config.max_env_steps:
            break
        learning_rate = annealed_learning_rate(config, pulled.env_steps)
        rollout = collector.collect(learner.act)
        try:
            statistics, norm = learn_from(rollout, learner, gradient.numpy(), config.optimizer.max_grad_norm)
        except NonFiniteError as fault:
            place.drop(fault.what)
            continue
        watch.lap("clip")
        staleness = store.push(worker_index, gradient, learning_rate, collector.env_steps, pulled)
        if staleness is None:
            return
        watch.lap("push")
        watch.move(store.waited, "push", "idle")
        place.publish(statistics, norm, staleness, learning_rate)
        if log is not None:
            log.write_due()
        watch.lap("publish")
    place.leave()
    environments.close()


def _environments(config: Config, environment: EnvironmentSpec) -> Environments:
    environments = environment.make(config.envs_per_worker)
    return SlowEnvironments(environments, config.env_latency_ms) if config.env_latency_ms else environments


def _generator(seed: int, worker_index: int, incarnation: int) -> np.random.Generator:
    """Of the run's seed and the worker; one that follows on a dead worker has numbers of its own."""
    return np.random.default_rng([seed, worker_index, *([incarnation] if incarnation else [])])
