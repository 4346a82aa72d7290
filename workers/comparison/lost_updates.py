"""What pushing without a lock loses: the real workers run their loop with an optimizer that subtracts the same amount
from every element at every push, by the same kernel; what is missing from the sum at the end was lost."""

import time
from dataclasses import replace
from math import inf
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from a3c.config import Config, CriticConfig, StalenessConfig
from a3c.environments import EnvironmentSpec
from shared.optimizers import SharedAdam
from shared.scoreboard import STOP, Scoreboard
from workers import actor_learner
from workers.comparison.results import LostUpdates
from workers.processes.start import context, start_process
from workers.training import build_store

SECONDS = 0.5  # of training
START_SECONDS = 60.0  # for all workers to have made an update
POLL_SECONDS = 0.01
STEP = 2.0**-20  # a power of two: float32 counts multiples of it exactly, up to 2^24 of them


class LedgerAdam(SharedAdam):
    """Adam whose every step is exactly STEP, for all elements: no decay, no epsilon, a gradient of ones."""

    def __init__(self, size: int):
        super().__init__(size, beta1=0.0, beta2=0.0, epsilon=0.0)

    def step(
        self, parameters: Tensor, gradient: Tensor, learning_rate: float, count: int, place: slice | None = None
    ) -> None:
        super().step(parameters, torch.ones_like(gradient), STEP, count)


def measure_lost_updates(
    config: Config, environment: EnvironmentSpec, folder: Path, seconds: float = SECONDS
) -> LostUpdates:
    """Count what the pushes of `seconds` lose; RuntimeError where a worker died or did not begin (logs in `folder`)."""
    plain: Any = {
        "loss": replace(config.loss, objective="a2c"),
        "critic": CriticConfig(),
        "staleness": StalenessConfig(),
    }
    config = replace(config, max_env_steps=2**62, log_interval=0, **plain)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    scoreboard = Scoreboard(config.workers)
    store = build_store(config, environment, scoreboard, LedgerAdam)
    store.parameters.zero_()
    processes: list[BaseProcess] = []
    try:
        for index in range(config.workers):
            arguments = (index, 0, config, environment, store, scoreboard, folder)
            process = context().Process(target=actor_learner.main, args=arguments, name=f"worker-{index}")
            start_process(process, environment.needs_main)
            processes.append(process)
        deadline, end = time.monotonic() + START_SECONDS, inf  # `seconds` begin when every worker has pushed
        while time.monotonic() < end:
            if end == inf and (scoreboard.read()["updates"] > 0).all():
                end = time.monotonic() + seconds
            late = end == inf and time.monotonic() > deadline
            if late or not all(process.is_alive() for process in processes):
                raise RuntimeError(f"a worker ended early; see {folder / 'logs'}")
            time.sleep(POLL_SECONDS)
        scoreboard.request(STOP)
        for process in processes:
            process.join(START_SECONDS)
    finally:
        for process in processes:
            process.kill()
            process.join()
    updates, pushes = store.updates, int(scoreboard.staleness_counts().sum())
    steps = float((store.parameters.double() / -STEP).mean())  # of an element, on average
    return LostUpdates(updates, 1 - steps / updates, store.overlapped_pushes / pushes, store.torn_pulls / pushes)
