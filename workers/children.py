"""The processes of a run, none of them started: what each is given, and how patiently it is watched."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from a3c.config import Config
from a3c.environments import EnvironmentSpec
from shared.scoreboard import Scoreboard
from shared.store import SharedStore
from workers import actor_learner
from workers.processes.child import Child, Patience

START_SECONDS = 60.0  # for imports, and for environments to be made and reset
PATIENCE = 5  # times what an environment has shown to take is not too long


class Children:
    """Makes the processes of a run, or of a node's part in one."""

    def __init__(
        self, config: Config, environment: EnvironmentSpec, store: SharedStore, scoreboard: Scoreboard, run_dir: Path
    ):
        self._parts = config, environment, store, scoreboard, run_dir

    def make(
        self, name: str, target: Callable[..., None], arguments: Any, beats: int, patience: Patience, **more: Any
    ) -> Child:
        """A process by its name, with what its target is given: a function of the pipe for its messages.

        Args:
            beats: the index of its signs of life on the scoreboard.
        """
        _, environment, _, scoreboard, run_dir = self._parts
        pulse, path = functools.partial(scoreboard.beats, beats), run_dir / "logs" / f"{name}.log"
        return Child(name, target, arguments, pulse, patience, path, needs_main=environment.needs_main, **more)

    def worker(self, index: int) -> Child:
        """An actor-learner."""
        config, environment, store, scoreboard, run_dir = self._parts
        return self.make(
            f"worker-{index}",
            actor_learner.main,
            lambda _: (index, scoreboard.incarnation(index), config, environment, store, scoreboard, run_dir),
            index,
            self.patience(config.envs_per_worker, config.env_latency_ms / 1000),
            computing=functools.partial(scoreboard.is_learning, index),
            early=config.envs_per_worker,
        )

    def patience(self, environments: int, latency: float = 0.0, least: float = 0.0) -> Patience:
        """Of a process that steps so many environments together: more where they have been seen to be slow."""
        config, environment, *_ = self._parts
        pace, timeout = environment.pace, config.supervision.heartbeat_timeout
        step = PATIENCE * max(pace.make_seconds, pace.reset_seconds, environments * (pace.step_seconds + latency))
        return Patience(START_SECONDS + step, max(timeout, least, step))
